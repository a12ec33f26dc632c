"""When a grant holds: its times, its grace and its instances, and how they stand at a moment.

Times are seconds since 1970 in UTC; a document writes them `2026-01-31T12:00:00Z`. Knows no clock: whoever asks says
what time it is, since which clock to believe is the site's business.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.canonical import TIME, Fields

DAY = 86_400
WARN_DAYS = 30
"""Days before the end from which a site warns."""
LAST = 253_402_300_799
"""9999-12-31T23:59:59Z."""
MAX_GRACE_DAYS = 3_660
MAX_INSTANCES = 1_000_000
FIELDS = ("not_before", "not_after", "grace_days", "max_instances")

State = Literal["unlimited", "valid", "ending", "grace", "ended", "early", "revoked"]


@dataclass(frozen=True)
class Standing:
    """How a grant stands at a moment. `seconds_left` is until its last moment, the grace included; None without one."""

    state: State
    message: str = ""
    seconds_left: int | None = None

    @property
    def holds(self) -> bool:
        return self.state not in ("early", "ended", "revoked")


@dataclass(frozen=True)
class Validity:
    """The conditions of a grant; None is no condition. `grace_days` follow `not_after`, and are warned of."""

    not_before: int | None = None
    not_after: int | None = None
    grace_days: int | None = None
    max_instances: int | None = None

    @property
    def timed(self) -> bool:
        """Whether any clock matters."""
        return self.not_before is not None or self.not_after is not None

    @property
    def last(self) -> int | None:
        """The last moment at which the grant holds."""
        return None if self.not_after is None else self.not_after + (self.grace_days or 0) * DAY

    def standing(self, now: int) -> Standing:
        """How the grant stands at `now`."""
        last = self.last
        left = None if last is None else last - now
        if self.not_before is not None and now < self.not_before:
            return Standing("early", f"the grant is not valid before {as_text(self.not_before)}", left)
        if self.not_after is None or left is None:
            return Standing("unlimited")
        ended = f"the grant ended at {as_text(self.not_after)}"
        if left < 0:
            grace = f", its {self.grace_days} days of grace too" if self.grace_days else ""
            return Standing("ended", ended + grace, left)
        if now > self.not_after:
            return Standing("grace", f"{ended}; it is served for {left // DAY} more days of grace", left)
        days = (self.not_after - now) // DAY
        if days < WARN_DAYS:
            return Standing("ending", f"the grant ends in {days} days, at {as_text(self.not_after)}", left)
        return Standing("valid", "", left)

    def as_record(self) -> dict[str, Any]:
        """The fields of a grant."""
        return {
            "not_before": None if self.not_before is None else as_text(self.not_before),
            "not_after": None if self.not_after is None else as_text(self.not_after),
            "grace_days": self.grace_days, "max_instances": self.max_instances,
        }  # fmt: skip


UNLIMITED = Validity()


def check_validity(validity: Validity) -> None:
    """Refuse conditions that contradict each other.

    Raises:
        UsageError: an end that is not after the beginning, a grace without an end, a number out of range.
    """
    before, after = validity.not_before, validity.not_after
    if before is not None and after is not None and after <= before:
        raise UsageError("the grant would end before it begins", hint="Give an --until after --from.")
    if validity.grace_days is not None and (after is None or not 0 <= validity.grace_days <= MAX_GRACE_DAYS):
        raise UsageError(
            f"a grace is 0 to {MAX_GRACE_DAYS:,} days after an end", hint="Give --grace together with --until."
        )
    if validity.max_instances is not None and not 1 <= validity.max_instances <= MAX_INSTANCES:
        raise UsageError(f"a grant is for 1 to {MAX_INSTANCES:,} instances", hint="Give another --instances.")


def read_validity(fields: Fields) -> Validity:
    """The conditions that a grant's fields state; each must stand there, be it as null."""
    if missing := [name for name in FIELDS if name not in fields.values]:
        raise fields.wrong(missing[0])
    found: dict[str, int | None] = {}
    for name in FIELDS:
        if fields.values[name] is None:
            found[name] = None
        else:
            found[name] = read_time(fields, name) if name.startswith("not_") else fields.integer(name)
    validity = Validity(**found)
    try:
        check_validity(validity)
    except UsageError as error:
        raise IntegrityError(f"{fields.part}: {error.message}", part=fields.part) from error
    return validity


def read_time(fields: Fields, name: str) -> int:
    """A time that a document states; one that no calendar has is refused."""
    try:
        return moment_of(fields.text(name, TIME))
    except ValueError as error:
        raise fields.wrong(name) from error


def moment_of(text: str) -> int:
    """The time that a document writes; ValueError where no calendar has it, or it lies before 1970."""
    found = int(datetime.fromisoformat(text).timestamp())
    if found < 0:
        raise ValueError(f"{text} lies before 1970")
    return found


def wall_clock() -> int:
    """This machine's clock, as far as documents can write it."""
    return min(max(0, int(time.time())), LAST)


def parse_moment(text: str, *, end: bool = False) -> int:
    """What a person typed: a day, which is meant from its first to its last second in UTC, or a time with its zone.

    Args:
        end: whether a day alone means its last second.

    Raises:
        UsageError: no date of the calendar, or a time of day without a zone.
    """
    hint = "Write 2027-01-31, or with the time and its zone 2027-01-31T18:00:00+01:00 (Z for UTC)."
    try:
        found, day = datetime.fromisoformat(text), re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
        if day is None and found.tzinfo is None:
            raise UsageError(f"{text[:60]!r} names a time and no zone", hint=hint)
        moment = int((found.replace(tzinfo=UTC) if day else found).timestamp()) + (DAY - 1 if day and end else 0)
        as_text(moment)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text[:60]!r} is no date", hint=hint) from error
    if moment < 0:
        raise UsageError(f"{text[:60]!r} lies before 1970", hint=hint)
    return moment


def as_text(moment: int) -> str:
    """A time as documents write it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
