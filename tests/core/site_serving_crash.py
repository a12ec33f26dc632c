"""Kills installs, upgrades and rollbacks with SIGKILL while a real server serves the site, and asks who answers.

    python site_serving_crash.py FOLDER POINTS SEED

After each kill a fresh opening of the site must find one whole version, the one before or the one after; the server
that runs follows, and answers every request, each as one whole version.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from seal_parts import HEADER, LICENCE, Home, make_home
from serving_parts import bundle_files, picture
from site_crash import killed_at
from test_serving_cli import install_domain, serving

from toolkit.artifacts import BundleFile
from toolkit.errors import UsageError
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.manifest import DomainRef
from toolkit.serving.access import add_key
from toolkit.site.current import open_current
from toolkit.site.fit import InstalledDomain
from toolkit.site.install import install
from toolkit.site.layout import open_site
from toolkit.site.rollback import rollback
from toolkit.site.verify import verify_site

SEALED = dataclasses.replace(HEADER, product="tiny", domain=DomainRef("tiny", ">=0.1,<0.2"))
ASKING = """
import sys, time, httpx
url, key, picture = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
with httpx.Client(headers={"X-API-Key": key, "Content-Type": "image/png"}) as client:
    while True:
        answer = client.post(url + "/v1/inspect", content=picture)
        print(answer.status_code, answer.json().get("verdict"), answer.json().get("bundle"), flush=True)
        time.sleep(0.01)
"""


def seal(home: Home) -> Path:
    files = [LICENCE, *(BundleFile(role, data) for role, data in bundle_files().items())]
    sealed = seal_bundle(home.bundles, header=SEALED, files=files, keys=home.keys, escrow=home.escrow)
    home.grant(sealed.path, home.site())
    return sealed.path


def put(bundle: Path, site: Path) -> None:
    install(bundle, open_site(site), check=lambda manifest: (), domains={"tiny": InstalledDomain("0.1.0")})


def whole(site: Path) -> str:
    """The bundle id of what the site serves now, every file of it opened; '' where nothing is installed."""
    verify_site(site)
    try:
        with open_current(site) as opened:
            for role in opened.roles:
                opened.read(role)
            return opened.manifest.bundle_id
    except UsageError:
        return ""


def kill(action: Callable[[], object], site: Path, counted: Path, choose: random.Random, most: int) -> bool:
    """Kill `action` somewhere; the site then holds the version of before or the one of after, whole."""
    before = whole(site)
    killed = killed_at(choose.randrange(1, most + 1), action, counted)
    left = whole(site)
    action()
    after = whole(site)
    assert left in (before, after), (before, left, after)
    assert after, "nothing is served at the end"
    return killed


def first_installs(home: Home, folder: Path, points: int, choose: random.Random) -> int:
    bundle = seal(home)
    killed = 0
    most = 1
    for number in range(points + 1):
        place = folder / "first"
        shutil.copytree(home.path, place)
        if number == 0:
            killed_at(0, lambda place=place: put(place / "bundles" / bundle.name, place / "site"), folder / "counted")
            most = int((folder / "counted").read_text())
        else:
            killed += kill(
                lambda place=place: put(place / "bundles" / bundle.name, place / "site"),
                place / "site", folder / "counted", choose, most,
            )  # fmt: skip
        shutil.rmtree(place)
    put(bundle, home.site().path)
    return killed


def changes(home: Home, folder: Path, packages: Path, points: int, choose: random.Random) -> int:
    """Upgrades and rollbacks in turn; every twentieth time another server is started and must serve what is current."""
    site, counted = home.site().path, folder / "counted"
    most = {"upgrade": 1, "rollback": 1}
    killed = 0
    for number in range(points + 2):
        kind = ("upgrade", "rollback")[number % 2]
        bundle = seal(home) if kind == "upgrade" else None
        current = whole(site)

        def action(bundle: Path | None = bundle, current: str = current) -> None:
            if bundle is not None:
                put(bundle, site)
            elif whole(site) == current:
                rollback(open_site(site))

        if number < 2:
            killed_at(0, action, counted)
            most[kind] = int(counted.read_text())
        else:
            killed += kill(action, site, counted, choose, most[kind])
        if number % 20 == 0:
            with serving(site, packages) as (_process, told):
                assert told["bundle"] == whole(site)
    return killed


def main(folder: Path, points: int, seed: int) -> None:
    choose, home = random.Random(seed), make_home(folder / "home")
    home.site()
    packages = install_domain(folder / "packages", seconds=0)
    killed = first_installs(home, folder, points // 5, choose)
    (folder / "picture.png").write_bytes(picture((230, 20, 20)))
    key = add_key(home.site().path, "line-1", "infer")
    answers = folder / "answers"
    with serving(home.site().path, packages) as (process, told), answers.open("w") as said:
        words = [sys.executable, "-c", ASKING, told["url"], key, str(folder / "picture.png")]
        with subprocess.Popen(words, stdout=said) as asking:
            try:
                killed += changes(home, folder, packages, points - points // 5, choose)
                assert process.poll() is None
                assert asking.poll() is None, "a request was not answered"
            finally:
                asking.kill()
        headers = {"X-API-Key": key, "Content-Type": "image/png"}
        last, deadline = whole(home.site().path), time.monotonic() + 20
        while True:
            answer = httpx.post(told["url"] + "/v1/inspect", content=picture((230, 20, 20)), headers=headers)
            if answer.json()["bundle"] == last:
                break
            assert time.monotonic() < deadline, (answer.json(), last)
    lines = answers.read_text().splitlines()[:-1]
    installed = {path.name for path in home.bundles.iterdir()}
    assert set(lines) <= {f"200 good {bundle}" for bundle in installed}, set(lines)
    print(f"killed {killed} of {points}, {len(lines)} answers of {len(set(lines))} versions meanwhile")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
