"""What time it is on a site, as far as that can be believed, and whether a grant holds now.

The latest of three counts: the wall clock, the time that the site has seen before (in its signed state), and the newest
time that somebody else signed. A clock that lies behind those by more than a day was set back: whatever depends on the
time is then refused. An administrator who also puts back the site's state is not stopped by this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from toolkit.errors import EnvironmentUnfit, Refused
from toolkit.seal.grantfile import Grant
from toolkit.seal.manifest import Manifest
from toolkit.seal.revocation import RevokedList
from toolkit.seal.trust import TrustRoot
from toolkit.seal.validity import DAY, Standing, Validity, as_text, moment_of, wall_clock
from toolkit.site.layout import Site
from toolkit.site.state import State, read_state, write_state

SLACK = DAY
"""Seconds by which the wall clock may lie behind: the publisher's clock need not agree with the site's."""


@dataclass(frozen=True)
class Clock:
    """`wall` is this machine's clock, `known` the latest time that it must have passed. Seconds since 1970, UTC."""

    wall: int
    known: int

    @property
    def now(self) -> int:
        """The time to judge by."""
        return max(self.wall, self.known)

    @property
    def set_back(self) -> bool:
        return self.wall + SLACK < self.known

    def check(self) -> None:
        """Refuse a clock that was set back.

        Raises:
            EnvironmentUnfit: it lies more than a day behind what this site has seen.
        """
        if self.set_back:
            raise EnvironmentUnfit(
                f"the clock says {as_text(self.wall)}, but it has been {as_text(self.known)} already",
                hint="Set the clock of this machine right; a grant that ends is not judged by a clock set back.",
            )


def read_clock(state: State, trust: TrustRoot, manifest: Manifest, grant: Grant) -> Clock:
    """The time on a site of this state, with a bundle and a grant at hand."""
    listed = trust.revoked.issued if trust.revoked else 0
    return Clock(wall_clock(), max(state.seen, moment_of(manifest.created), grant.issued, listed))


def check_time(validity: Validity, clock: Clock) -> Standing:
    """How a grant stands now, where it holds.

    Raises:
        Refused: it ended, its grace included, or is not valid yet (exit 3).
        EnvironmentUnfit: the clock was set back, and the grant depends on it (exit 5).
    """
    if validity.timed:
        clock.check()
    standing = validity.standing(clock.now)
    if not standing.holds:
        hint = "Ask the issuer for a new grant, and install the bundle with it: toolkit install BUNDLE"
        raise Refused(standing.message, hint=hint if standing.state == "ended" else "Install it then.")
    return standing


def check_list(revoked: RevokedList | None, clock: Clock) -> None:
    """Refuse to take anything new on the word of a list that has ended: what was revoked since is not known.

    Raises:
        Refused: it has ended. EnvironmentUnfit: the clock was set back.
    """
    if revoked is None:
        return
    clock.check()
    if message := stale(revoked, clock.now):
        raise Refused(message, hint="Bring the publisher's newest: toolkit site revoke SITE --list revoked.json")


def stale(revoked: RevokedList | None, now: int) -> str:
    """What is said of a list that has ended; '' of one that holds, and where there is none."""
    if revoked is None or now <= revoked.expires:
        return ""
    return f"the revocation list ended at {as_text(revoked.expires)}"


def note_time(site: Site, now: int) -> None:
    """Write down in the site's state that it is `now`, so that a clock set back later is seen."""
    with site.held("note the time") as site:
        state = read_state(site.current, site.key_id)
        write_state(site.current, replace(state, seen=max(state.seen, now)), site.signer())
