"""Runs one action again and again and kills it with SIGKILL at chosen system calls, then looks at what is left.

    python site_crash.py SCENARIO FOLDER POINTS SEED

Python's audit events (open, os.rename, os.mkdir, fcntl.flock, ...) are the points: a child counts them and kills itself
at the chosen one, so every run is killed somewhere else and each failure can be repeated.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from seal_parts import Home, make_home, put

from toolkit.errors import ToolkitError
from toolkit.seal.grant import grant
from toolkit.seal.keys import ensure_development_keys
from toolkit.seal.recipient import load_recipient
from toolkit.seal.verify import read_bundle
from toolkit.site.current import open_current
from toolkit.site.layout import init_site, is_site, open_site
from toolkit.site.rollback import rollback
from toolkit.site.verify import verify_site

OLD, NEW = b"old weights " * 3000, b"new weights " * 3000


def killed_at(point: int, action: Callable[[], object], counted: Path) -> bool:
    """Run `action` in a child that dies at its `point`-th event; False where it ended before. 0 only counts."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event == "open" or event.startswith(("os.", "fcntl.", "shutil.")):
                count += 1
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            action()
        except ToolkitError as error:
            print(error, file=sys.stderr)
            os._exit(1)
        total = count
        counted.write_text(str(total))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, f"failed without being killed at {point}"
    return False


def serving(site: Path) -> bytes:
    with open_current(site) as opened:
        return opened.read("model")


class Scenario:
    """`prepare` makes a fresh start below a folder; `action` is killed; `left` judges what it left; `again` ends it."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def prepare(self, folder: Path) -> None:
        shutil.copytree(self.home.path, folder)

    def at(self, folder: Path) -> Home:
        return Home(folder, self.home.keys)


class Install(Scenario):
    def __init__(self, home: Home) -> None:
        super().__init__(home)
        site = home.site()
        put(home.granted(site, OLD).path, site)
        self.new = home.granted(site, NEW).path.name

    def action(self, folder: Path) -> None:
        put(folder / "bundles" / self.new, open_site(folder / "site"))

    def left(self, folder: Path) -> None:
        verify_site(folder / "site")
        assert serving(folder / "site") in (OLD, NEW)

    def done(self, folder: Path) -> None:
        site = open_site(folder / "site")
        assert serving(site.path) == NEW
        assert not list(site.staging.iterdir())
        assert len(list(site.versions.iterdir())) == 2
        events = [entry.event for entry in site.audit.entries() if entry.event.startswith("install.")]
        assert events.count("install.begin") == events.count("install.done") + events.count("install.abandoned")


class Rollback(Install):
    def __init__(self, home: Home) -> None:
        super().__init__(home)
        super().action(home.path)

    def action(self, folder: Path) -> None:
        if serving(folder / "site") == NEW:
            rollback(open_site(folder / "site"))

    def done(self, folder: Path) -> None:
        assert serving(folder / "site") == OLD


class Seal(Scenario):
    def action(self, folder: Path) -> None:
        self.at(folder).seal(NEW)

    def left(self, folder: Path) -> None:
        for bundle in (folder / "bundles").glob("[!.]*"):
            read_bundle(bundle, self.home.keys.trust)
            assert (folder / "escrow" / f"{bundle.name}.dsse").exists()

    def done(self, folder: Path) -> None:
        counters = [int(path.name.split("-")[1]) for path in (folder / "bundles").glob("[!.]*")]
        assert len(set(counters)) == len(counters) >= 1
        assert not list((folder / "bundles").glob(".sealing-*"))


class Grant(Scenario):
    def __init__(self, home: Home) -> None:
        super().__init__(home)
        home.site()
        self.name = home.seal(OLD).path.name

    def action(self, folder: Path) -> None:
        recipient = load_recipient(folder / "site" / "recipient.json")
        grant(folder / "bundles" / self.name, recipient, self.home.keys, folder / "escrow")

    def left(self, folder: Path) -> None:
        assert len(read_bundle(folder / "bundles" / self.name, self.home.keys.trust).grants) in (0, 1)

    def done(self, folder: Path) -> None:
        assert len(read_bundle(folder / "bundles" / self.name, self.home.keys.trust).grants) == 1


class Make(Scenario):
    """The first keys and the first site."""

    def prepare(self, folder: Path) -> None:
        folder.mkdir()

    def action(self, folder: Path) -> None:
        keys = ensure_development_keys(folder / "keys")
        init_site(folder / "site", keys.trust)

    def left(self, folder: Path) -> None:
        if is_site(folder / "site"):
            verify_site(folder / "site")

    def done(self, folder: Path) -> None:
        self.left(folder)
        site = open_site(folder / "site")
        assert [entry.event for entry in site.audit.entries()] == ["site.init"]


SCENARIOS = {"install": Install, "rollback": Rollback, "seal": Seal, "grant": Grant, "make": Make}


def main(name: str, folder: Path, points: int, seed: int) -> None:
    scenario = SCENARIOS[name](make_home(folder / "home"))
    counted = folder / "counted"
    scenario.prepare(folder / "whole")
    assert not killed_at(0, lambda: scenario.action(folder / "whole"), counted)
    scenario.done(folder / "whole")
    total = int(counted.read_text())
    chosen = sorted(random.Random(seed).sample(range(1, total + 1), min(points, total)))
    for point in chosen:
        place = folder / f"killed-{point}"
        scenario.prepare(place)
        killed_at(point, lambda place=place: scenario.action(place), counted)
        try:
            scenario.left(place)
            scenario.action(place)
            scenario.done(place)
        except (AssertionError, ToolkitError) as error:
            raise SystemExit(f"{name} killed at event {point} of {total}: {error!r}") from error
        shutil.rmtree(place)
    print(f"{name}: killed at {len(chosen)} of {total} events")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
