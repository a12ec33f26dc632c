#!/bin/sh
# Builds the kit from which a site without a network installs the server: wheels, their hashes, the installer and the
# service. Run it on a machine of the site's kind (system, architecture, Python) that reaches a package index.
#
#   deployments/offline/build.sh [--with-python] OUT DOMAIN...
#
# --with-python adds Debian's packages of Python, for a site that has none: build on the site's Debian release then.
# Exit codes as the toolkit's: 2 bad usage, 5 something is missing here.
set -eu

fail() {
    printf 'error: %s\nhint: %s\n' "$2" "$3" >&2
    exit "$1"
}

with_python=no
if [ "${1:-}" = --with-python ]; then
    with_python=yes
    shift
fi
[ $# -ge 2 ] || fail 2 "a folder and a domain are needed" "$0 [--with-python] OUT DOMAIN..."
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
out=$1
shift
for domain in "$@"; do
    [ -f "$root/domains/$domain/pyproject.toml" ] || fail 2 "there is no domain $domain" \
        "Domains: $(cd "$root/domains" && echo *)."
done
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
    fail 2 "$out is not empty" "Name a new folder: a kit holds exactly what its list of checksums says."
fi
python=${PYTHON:-python3}
"$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail 5 "$python is no Python 3.11 or newer with pip" "Install it, or name one: PYTHON=python3.12 $0 ..."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out/wheels"
out=$(CDPATH='' cd -- "$out" && pwd)

# Wheels are built from copies: what an earlier build left in the tree must not slip into them.
mkdir "$work/core" "$work/domains"
cp -R "$root/pyproject.toml" "$root/README.md" "$root/LICENSE" "$root/core" "$work/core/"
for domain in "$@"; do cp -R "$root/domains/$domain" "$work/domains/"; done
rm -rf "$work"/*/*.egg-info "$work"/core/core/*.egg-info "$work"/domains/*/build "$work"/domains/*/src/*.egg-info
set -- "$work"/domains/*
"$python" -m pip wheel --quiet --disable-pip-version-check -c "$root/constraints.txt" --wheel-dir "$out/wheels" \
    "$work/core[serve,grpc,otel]" "$@" || fail 5 "the wheels cannot be gathered" "pip's message above says which one, and why."
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$out/wheels" pip ||
    fail 5 "pip's own wheel cannot be had" "pip's message above says why."
if ls "$out"/wheels/torch-* >/dev/null 2>&1; then
    fail 5 "torch is among the wheels" "A site never needs it: look for what asks for it in the domain's pyproject."
fi

if [ "$with_python" = yes ]; then
    mkdir -p "$out/debian" "$work/cache/archives/partial"
    : >"$work/status" # as if nothing were installed, so that all that Python needs is fetched
    apt-get -qq -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root --no-install-recommends --download-only --yes install python3 >/dev/null ||
        fail 5 "Debian's packages of Python cannot be had" "apt-get's message above says why."
    cp "$work"/cache/archives/*.deb "$out/debian/"
fi

cp "$root/deployments/offline/install.sh" "$root/deployments/systemd/toolkit-serve.service" \
    "$root/deployments/systemd/toolkit-admin" "$out/"
"$python" - "$out" <<'PYTHON'
"""The exact list that pip may install, a hash a wheel; and what the kit was built for."""
import hashlib, pathlib, platform, sys

out = pathlib.Path(sys.argv[1])
wheels = [wheel for wheel in sorted(out.glob("wheels/*.whl")) if not wheel.name.startswith("pip-")]
lines = []
for wheel in wheels:
    name, version = wheel.name.split("-")[:2]
    lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
(out / "requirements.txt").write_text("".join(lines))
python = "{}.{}".format(*sys.version_info)
(out / "kit.conf").write_text(f"python={python}\nmachine={platform.machine()}\n")
PYTHON
(cd "$out" && find . -type f ! -name SHA256SUMS -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS)

printf '%s: %s\n' "$out" "$(du -sh "$out" | cut -f1)"
printf 'Carry it to the site. Write this down on paper; it is what the site compares first:\n'
(cd "$out" && sha256sum SHA256SUMS)
