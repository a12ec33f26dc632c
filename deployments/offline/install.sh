#!/bin/sh
# Installs the server from this kit, with no network, and again: a second run does what the first left undone, and a
# newer kit takes the place of an older one in a single step. Run it as root, in the kit's folder, after
#
#   sha256sum SHA256SUMS            # compare with the paper: an installer that checks itself proves nothing
#   sha256sum --check --quiet SHA256SUMS
#
# It makes the user toolkit, /opt/toolkit (the program), /var/lib/toolkit (the site's data) and /etc/toolkit (its
# passphrase), and the service, which it neither enables nor starts. It leaves data, passphrase and all of /etc/systemd
# alone: what a site changes of the service stands there, in a drop-in (`systemctl edit toolkit-serve`).
# Exit codes as the toolkit's: 2 bad usage, 4 the kit is damaged, 5 something is missing on this machine.
set -eu
umask 022

fail() {
    printf 'error: %s\nhint: %s\n' "$2" "$3" >&2
    exit "$1"
}
say() { printf '%s\n' "$*"; }

[ $# -eq 0 ] || fail 2 "this installer takes no arguments" "cd KIT && ./install.sh"
[ "$(id -u)" -eq 0 ] || fail 2 "only root can install the service" "Run it as root: sudo ./install.sh"
kit=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$kit"
program=/opt/toolkit

[ -f SHA256SUMS ] || fail 4 "the kit has no SHA256SUMS" "Carry it again, whole."
sha256sum --check --quiet --strict SHA256SUMS >&2 || fail 4 "the kit is damaged" "Carry it again; nothing was installed."
if [ "$(find . -type f ! -name SHA256SUMS | wc -l)" -ne "$(wc -l <SHA256SUMS)" ]; then
    fail 4 "the kit holds files that its list does not name" "Carry it again; nothing was installed."
fi
python=
machine=
# shellcheck source=/dev/null
. ./kit.conf # says which
[ "$(uname -m)" = "$machine" ] || fail 5 "the kit is for $machine, and this machine is $(uname -m)" \
    "Build a kit on a machine of this architecture."

if ! command -v python3 >/dev/null; then
    [ -d debian ] || fail 5 "there is no Python on this machine" \
        "Install Debian's python3, or build the kit with --with-python."
    say "Installing Debian's Python from the kit"
    set --
    for file in debian/*.deb; do
        dpkg-query --show "$(dpkg-deb --field "$file" Package)" >/dev/null 2>&1 || set -- "$@" "./$file"
    done
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 \
        install --yes --no-install-recommends "$@" >/dev/null ||
        fail 5 "Debian's Python cannot be installed" "apt's message is above: is the kit for this release of Debian?"
fi
found=$(python3 -c 'import sys; print("{}.{}".format(*sys.version_info))')
[ "$found" = "$python" ] || fail 5 "the kit is for Python $python, and python3 is $found" \
    "Build a kit with Python $found."

getent group toolkit >/dev/null || groupadd --system toolkit
getent passwd toolkit >/dev/null || useradd --system --gid toolkit --home-dir /var/lib/toolkit --no-create-home \
    --shell /usr/sbin/nologin toolkit
install -d -m 0755 "$program" "$program/releases"
install -d -o toolkit -g toolkit -m 0700 /var/lib/toolkit
install -d -m 0700 /etc/toolkit

# A release is a folder of its own, named by what is in it, and /opt/toolkit/bin points to the one that runs.
if [ -e "$program/bin" ] && [ ! -L "$program/bin" ]; then
    fail 5 "$program holds an environment that this installer did not make" "Move it away, and run this again."
fi
release=$program/releases/$(sha256sum SHA256SUMS | cut -c1-12)
if [ ! -e "$release/complete" ]; then
    say "Installing into $release"
    rm -rf "$release"
    python3 -m venv --without-pip "$release"
    set -- wheels/pip-*.whl
    "$release/bin/python" "$1/pip" install --isolated --quiet --no-index --no-deps --no-cache-dir --disable-pip-version-check \
        --find-links wheels --require-hashes --requirement requirements.txt ||
        fail 5 "pip cannot install the wheels here" "Its message is above; what ran before still runs."
    "$release/bin/toolkit" --version >/dev/null || fail 5 "the installed toolkit does not start" \
        "Its message is above; what ran before still runs."
    : >"$release/complete"
fi
before=$(readlink "$program/bin" || true)
if [ "$before" != "$release/bin" ]; then
    ln -s "$release/bin" "$program/bin.next"
    mv -T "$program/bin.next" "$program/bin"
fi
for old in "$program"/releases/*; do # the one before is kept, to go back to by hand
    case $old/bin in "$release/bin" | "$before") ;; *) rm -rf "$old" ;; esac
done

units=/usr/local/lib/systemd/system
install -d -m 0755 "$units" /usr/local/sbin
install -m 0644 toolkit-serve.service "$units/toolkit-serve.service"
install -m 0755 toolkit-admin /usr/local/sbin/toolkit-admin
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

say "Installed: $("$program/bin/toolkit" --version), $(python3 --version)"
if [ -e /etc/systemd/system/toolkit-serve.service ]; then
    say "Note: /etc/systemd/system/toolkit-serve.service takes the place of the kit's unit. Put what it changes into a"
    say "      drop-in (systemctl edit toolkit-serve), remove it, then: systemctl daemon-reload"
fi
if [ ! -e /etc/toolkit/passphrase ]; then
    say "Next: install -m 0600 /dev/stdin /etc/toolkit/passphrase      # type the site's passphrase, end with Ctrl-D"
fi
if [ ! -e /var/lib/toolkit/site ]; then
    say "Next: toolkit-admin site init /var/lib/toolkit/site --trust /media/stick/root.json --name NAME"
fi
if [ -n "$before" ] && [ "$before" != "$release/bin" ]; then say "Next: systemctl restart toolkit-serve"; fi
