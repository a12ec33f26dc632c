"""What is served, watched: that its grant holds and nothing was revoked, again and again while a server runs.

The site is read anew when its state has changed, which is looked for each second, and every ten seconds: so a renewed
grant or a revocation is taken up without a restart. Once an hour the time is written down. Between, the time goes on by
a clock that nobody can set.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from toolkit.errors import ToolkitError
from toolkit.seal.grantfile import Grant
from toolkit.seal.manifest import Manifest
from toolkit.seal.open import OpenedBundle
from toolkit.seal.validity import Standing, wall_clock
from toolkit.site.clock import note_time, read_clock
from toolkit.site.current import installed_grant
from toolkit.site.layout import Site, open_site
from toolkit.site.standing import judge
from toolkit.site.state import read_state

GLANCE_SECONDS = 1.0
LOOK_SECONDS = 10.0
NOTE_SECONDS = 3600.0


@dataclass
class Watch:
    """A served bundle. `now()` starts at the time the site believed in and never goes back."""

    site: Site
    manifest: Manifest
    grant: Grant
    started: int
    _base: float = field(default_factory=lambda: _elapsed())

    def now(self) -> int:
        """Seconds since 1970: this machine's clock, or the time since the start where that is later."""
        return max(wall_clock(), self.started + int(_elapsed() - self._base))

    def standing(self) -> Standing:
        """How the bundle stands now; cheap enough to ask before each answer."""
        return judge(self.site.trust, self.manifest.signer, self.manifest.bundle_id, self.grant, self.now())

    def look(self) -> None:
        """Take up what came to the site since: another grant, root or revocation list. A version that the site no
        longer keeps is judged by the grant that it had."""
        self.site = site = open_site(self.site.path, self.site.passphrase)
        if read_state(site.current, site.key_id).find(self.manifest.bundle_id) is not None:
            self.grant = installed_grant(site, self.manifest.bundle_id)


@contextlib.contextmanager
def watched(site: Site, bundle: OpenedBundle) -> Iterator[Watch]:
    """A watch over `bundle`, kept by a thread as long as the block lasts.

    Raises:
        EnvironmentUnfit: the grant has an end, and the time cannot be written down.
    """
    clock = read_clock(read_state(site.current, site.key_id), site.trust, bundle.manifest, bundle.grant)
    watch = Watch(site, bundle.manifest, bundle.grant, clock.now)
    if watch.grant.validity.timed:
        note_time(site, watch.now())
    end = threading.Event()
    thread = threading.Thread(target=_keep, args=(watch, end), name="licence", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        end.set()
        thread.join()


def _keep(watch: Watch, end: threading.Event) -> None:
    noted = looked = _elapsed()
    seen = 0
    while not end.wait(GLANCE_SECONDS):
        try:
            if (now := _changed(watch.site)) == seen and _elapsed() - looked < LOOK_SECONDS:
                continue
            seen, looked = now, _elapsed()
            watch.look()
            if watch.grant.validity.timed and _elapsed() - noted >= NOTE_SECONDS:
                noted = _elapsed()
                note_time(watch.site, watch.now())
        except (ToolkitError, OSError) as error:
            # What was known stays in force, and that ends no later than it did; the operator is told why.
            sys.stderr.write(f"warning: {error}\n")


def _changed(site: Site) -> int:
    """When the site's state was last written: what is installed and revoked there is part of it."""
    return site.current.stat().st_mtime_ns


def _elapsed() -> float:
    """Seconds since the machine started, those asleep included where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
