"""`deployments/offline` on a bare Debian: no Python, no network but loopback, and at the end a picture is answered.

The root is debootstrap's smallest; the kit is built by build.sh, carried there, and installed by install.sh.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from seal_parts import HEADER, LICENCE, Home, make_home
from serving_parts import bundle_files, picture

from toolkit.artifacts import BundleFile
from toolkit.seal.bundle import SealedBundle, seal_bundle
from toolkit.seal.grant import grant
from toolkit.seal.manifest import DomainRef
from toolkit.seal.recipient import load_recipient

OFFLINE = Path(__file__).resolve().parents[2] / "deployments" / "offline"
RELEASE = "bookworm"
PYTHON = (3, 11)  # of that release
NEEDED = ("debootstrap", "unshare", "ip", "chroot", "apt-get")

SET_UP = """
test "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')" = lo    # there is no way out
! command -v python3                                                 # and the machine is bare
cd /kit
./install.sh | grep -- '--trust /'                                   # toolkit-admin works in a folder of its own
dropped_in=/etc/systemd/system/toolkit-serve.service.d/override.conf
mkdir -p "${dropped_in%/*}"                                          # as `systemctl edit toolkit-serve` makes it
echo "[Service]" >"$dropped_in"
touch -d 2001-01-01 "$dropped_in"
./install.sh >/tmp/said                                              # again: nothing left to do
! grep Installing /tmp/said
! grep Note: /tmp/said
test "$(cat "$dropped_in") $(stat -c %y "$dropped_in" | cut -c1-4)" = "[Service] 2001"
test "$(find /etc/systemd -newer "$dropped_in" -name 'toolkit*.service')" = ""
cmp toolkit-serve.service /usr/local/lib/systemd/system/toolkit-serve.service
echo mine >/etc/systemd/system/toolkit-serve.service                 # a whole unit of the site's own
./install.sh | grep 'Note: /etc/systemd/system/toolkit-serve.service'
test "$(cat /etc/systemd/system/toolkit-serve.service)" = mine
test "$(stat -c '%U %a' /var/lib/toolkit /etc/toolkit | tr '\\n' ' ')" = "toolkit 700 root 700 "
! ls /opt/toolkit/bin/../lib/python*/site-packages | grep -x torch
$as_service site init /var/lib/toolkit/site --trust /stick/root.json --name "hall 4"
"""

SERVE = """
$as_service install /stick/bundle --site /var/lib/toolkit/site
$as_service access add line-1 --role infer --site /var/lib/toolkit/site --json >/run/key
$as_service serve --site /var/lib/toolkit/site --port 8080 --grpc-port 9000 --otlp http://127.0.0.1:4318 \\
    --json >/run/served &
server=$!
python3 - <<'ASK' >/stick/answer.json
import json, time, urllib.error, urllib.request
key = json.load(open("/run/key"))["key"]
headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
asked = urllib.request.Request("http://127.0.0.1:8080/v1/inspect", open("/stick/part.png", "rb").read(), headers)
for _ in range(300):
    try:
        print(urllib.request.urlopen(asked).read().decode())
        break
    except urllib.error.URLError:
        time.sleep(0.2)
ASK
kill $server
wait $server # it drains, and ends well
"""

BROKEN = """
cd /kit
tell() { set +e; ./install.sh >/dev/null; echo $?; set -e; }
echo x >>requirements.txt; tell
truncate -s -2 requirements.txt; echo y >wheels/extra.whl; tell
rm wheels/extra.whl; sed -i 's/^machine=.*/machine=s390x/' kit.conf
find . -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS; tell
test -x /opt/toolkit/bin/toolkit
"""

AS_SERVICE = """
as_service="setpriv --reuid=toolkit --regid=toolkit --init-groups env HOME=/var/lib/toolkit
    TOOLKIT_PASSPHRASE_FILE=/stick/passphrase /opt/toolkit/bin/toolkit"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare root of Debian."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if os.geteuid() or missing:
        pytest.skip(f"needs root and {', '.join(NEEDED)}; missing: {', '.join(missing) or 'root'}")
    if sys.version_info[:2] != PYTHON:
        pytest.skip(f"a kit is for the Python that builds it, and {RELEASE} has {PYTHON}")
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"]).returncode:
        pytest.skip("this machine gives no network namespace")
    folder = tmp_path_factory.mktemp("debian") / "root"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", RELEASE, str(folder)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"debootstrap cannot make a root here: {made.stdout.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("stick") / "kit"
    built = subprocess.run(
        [str(OFFLINE / "build.sh"), "--with-python", str(folder), "industry"],
        env=os.environ | {"PYTHON": sys.executable}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if built.returncode == 5:
        pytest.skip("the kit cannot be built here: no package index")
    assert built.returncode == 0
    sums = subprocess.run(["sha256sum", "SHA256SUMS"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    assert sums.stdout.strip() == built.stdout.strip().splitlines()[-1]  # what the publisher writes on paper
    shutil.copytree(folder, root / "kit")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_bare_debian_without_a_network_installs_and_answers(root: Path, kit: Path, tmp_path: Path) -> None:
    stick = root / "stick"
    stick.mkdir()
    stick.chmod(0o777)
    (stick / "passphrase").write_text("correct horse battery staple\n")
    (stick / "part.png").write_bytes(picture((250, 10, 10)))
    home = make_home(tmp_path / "home")
    shutil.copy(home.path / "keys" / "root.json", stick)

    inside(root, SET_UP)
    sealed = seal(home)
    grant(sealed.path, load_recipient(root / "var/lib/toolkit/site/recipient.json"), home.keys, home.escrow)
    shutil.copytree(sealed.path, stick / "bundle")
    inside(root, SERVE)

    answer: dict[str, Any] = json.loads((stick / "answer.json").read_bytes())
    assert (answer["verdict"], answer["bundle"]) == ("good", sealed.manifest.bundle_id)
    assert inside(root, BROKEN).split() == ["4", "4", "5"]  # the kit is altered, and what runs is left alone


def seal(home: Home) -> SealedBundle:
    header = dataclasses.replace(HEADER, domain=DomainRef("industry", ">=0.1,<0.2"))
    plan = {"domain": "industry", "task": "image_classification"}
    files = [BundleFile(role, data) for role, data in bundle_files(plan=json.dumps(plan).encode()).items()]
    return seal_bundle(home.bundles, header=header, files=[LICENCE, *files], keys=home.keys, escrow=home.escrow)


def inside(root: Path, script: str) -> str:
    """Run a script as root of that Debian, in namespaces of its own with loopback only; returns what it printed."""
    prepare = 'ip link set lo up; mount -t proc proc "$0/proc"; exec chroot "$0" /bin/sh -euc "$1"'
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", prepare, str(root),
         AS_SERVICE + script],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
