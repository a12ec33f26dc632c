"""Grants that begin, end, have a grace, and count servers. Case 17 of the bundle design."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from seal_parts import Home, make_home, put

from toolkit.errors import EnvironmentUnfit, Refused, UsageError
from toolkit.seal.validity import DAY, Validity, as_text, check_validity, moment_of, parse_moment
from toolkit.site.clock import note_time
from toolkit.site.current import open_current, open_served
from toolkit.site.instances import instance
from toolkit.site.layout import Site
from toolkit.site.rollback import rollback
from toolkit.site.standing import standing_of
from toolkit.site.state import read_state
from toolkit.site.watch import watched

NOW = int(time.time())
YEAR_2100 = moment_of("2100-03-01T00:00:00Z")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def site(home: Home) -> Site:
    return home.site()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets this machine's clock, as far as the code under test sees it."""
    return lambda moment: monkeypatch.setattr(time, "time", lambda: float(moment))


def bundle_until(home: Home, site: Site, validity: Validity, model: bytes = b"weights") -> Path:
    sealed = home.seal(model)
    home.grant(sealed.path, site, renew=True, validity=validity)
    return sealed.path


def untouched(site: Site) -> bool:
    return not list(site.versions.iterdir()) and [e.event for e in site.audit.entries()][-1] == "install.refused"


def test_case_17_expired_grant_is_refused(home: Home, site: Site) -> None:
    bundle = bundle_until(home, site, Validity(not_after=NOW - 10))
    with pytest.raises(Refused, match="ended") as error:
        put(bundle, site)
    assert error.value.exit_code == 3
    assert untouched(site)


def test_case_17_a_grant_is_not_valid_yet(home: Home, site: Site) -> None:
    bundle = bundle_until(home, site, Validity(not_before=NOW + 3600))
    with pytest.raises(Refused, match="not valid before"):
        put(bundle, site)
    assert untouched(site)


def test_case_17_a_grant_that_ends_after_install_serves_no_more(
    home: Home, site: Site, at: Callable[[int], None]
) -> None:
    put(bundle_until(home, site, Validity(not_after=NOW + 60 * DAY, grace_days=2)), site)
    open_current(site.path).close()
    bundle_id = read_state(site.current, site.key_id).current
    states = {}
    for days in (1, 45, 61):
        at(NOW + days * DAY)
        states[days] = standing_of(site, bundle_id)["state"]
        open_current(site.path).close()
    assert states == {1: "valid", 45: "ending", 61: "grace"}
    at(NOW + 62 * DAY + 1)
    with pytest.raises(Refused, match="2 days of grace too"):
        open_current(site.path)
    assert standing_of(site, bundle_id)["state"] == "ended"


def test_case_17_clock_set_back_fails_closed(home: Home, site: Site, at: Callable[[int], None]) -> None:
    at(NOW + 100 * DAY)
    put(bundle_until(home, site, Validity(not_after=NOW + 200 * DAY)), site)
    at(NOW + 99 * DAY)
    open_current(site.path).close()
    for moment in (NOW + 98 * DAY, NOW, 0):
        at(moment)
        with pytest.raises(EnvironmentUnfit, match="the clock says") as error:
            open_current(site.path)
        assert error.value.exit_code == 5
        with pytest.raises(EnvironmentUnfit, match="the clock says"):
            put(bundle_until(home, site, Validity(not_after=NOW + 200 * DAY)), site)
    assert "set back" in standing_of(site, read_state(site.current, site.key_id).current)["message"]


def test_case_17_a_clock_behind_what_was_signed_fails_closed(home: Home, site: Site, at: Callable[[int], None]) -> None:
    bundle = bundle_until(home, site, Validity(not_after=NOW + 10 * DAY))
    at(NOW - 2 * DAY)
    with pytest.raises(EnvironmentUnfit, match="the clock says"):
        put(bundle, site)
    assert untouched(site)


def test_case_17_a_clock_set_back_by_less_than_a_day_gains_nothing(
    home: Home, site: Site, at: Callable[[int], None]
) -> None:
    put(bundle_until(home, site, Validity(not_after=NOW + 5 * DAY), b"one"), site)
    at(NOW + 5 * DAY - 10)
    put(bundle_until(home, site, Validity(), b"two"), site)  # an install notes the time
    at(NOW + 5 * DAY + 10)
    with pytest.raises(Refused, match="ended"):
        rollback(site)
    put(bundle_until(home, site, Validity(), b"three"), site)
    at(NOW + 5 * DAY - 3600)
    with pytest.raises(Refused, match="ended"):
        rollback(site, next(v.bundle_id for v in read_state(site.current, site.key_id).kept if v.counter == 1))


def test_a_wrong_clock_does_not_matter_to_a_grant_without_an_end(
    home: Home, site: Site, at: Callable[[int], None]
) -> None:
    put(bundle_until(home, site, Validity()), site)
    at(0)
    open_current(site.path).close()


@pytest.mark.parametrize("moment", [-(10**6), 10**12, 10**15])
def test_case_17_a_clock_beyond_all_calendars_is_no_traceback(
    moment: int, home: Home, site: Site, at: Callable[[int], None]
) -> None:
    bundle = bundle_until(home, site, Validity(not_after=moment_of("9999-12-31T00:00:00Z"), grace_days=3660))
    at(moment)
    with contextlib.suppress(EnvironmentUnfit):
        put(bundle, site)
        open_current(site.path).close()
        assert standing_of(site, read_state(site.current, site.key_id).current)["state"] == "grace"


def test_case_17_year_2100(home: Home, site: Site, at: Callable[[int], None]) -> None:
    bundle = bundle_until(home, site, Validity(not_before=NOW - 10, not_after=YEAR_2100))
    put(bundle, site)
    at(YEAR_2100)
    open_current(site.path).close()
    at(YEAR_2100 + 1)
    with pytest.raises(Refused, match=r"ended at 2100-03-01T00:00:00Z"):
        open_current(site.path)


@pytest.mark.parametrize(
    ("text", "end", "means"),
    [
        ("2100-12-31", True, "2100-12-31T23:59:59Z"),
        ("2100-12-31", False, "2100-12-31T00:00:00Z"),
        ("2028-02-29", False, "2028-02-29T00:00:00Z"),
        ("2027-01-31T18:00:00+05:30", True, "2027-01-31T12:30:00Z"),
        ("2027-01-31T18:00Z", True, "2027-01-31T18:00:00Z"),
        ("9999-12-31", True, "9999-12-31T23:59:59Z"),
    ],
)
def test_case_17_dates_that_people_type(text: str, end: bool, means: str) -> None:
    assert as_text(parse_moment(text, end=end)) == means
    assert moment_of(means) == parse_moment(text, end=end)


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "2100-02-29", "2027-02-30", "2027-13-01", "31.01.2027", "2027-01-31T18:00:00", "2027-W05",
        "20270131",
        "2016-12-31T23:59:60Z", "2027-01-31T25:00:00Z", "1969-12-31", "0001-01-01", "9999-12-31T23:59:59-12:00",
        "٢٠٢٧-٠١-٣١", "2027-01-31T18:00:00+99:00", "2027-01-31\x00", "9" * 10_000,
    ],
)  # fmt: skip
def test_case_17_what_is_no_date_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_moment(text)
    assert error.value.hint


@pytest.mark.parametrize(
    "validity",
    [
        Validity(not_before=20, not_after=20), Validity(grace_days=1), Validity(not_after=9, grace_days=-1),
        Validity(not_after=9, grace_days=10**9), Validity(max_instances=0), Validity(max_instances=10**9),
    ],
)  # fmt: skip
def test_conditions_that_contradict_each_other(validity: Validity) -> None:
    with pytest.raises(UsageError):
        check_validity(validity)


def test_another_end_needs_a_new_grant(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    with pytest.raises(UsageError, match="other conditions") as error:
        home.grant(sealed.path, site, validity=Validity(not_after=NOW + DAY))
    assert "--renew" in error.value.hint
    renewed = home.grant(sealed.path, site, renew=True, validity=Validity(not_after=NOW + DAY))
    assert home.grant(sealed.path, site) == renewed, "who asks for nothing in particular gets what there is"


def test_a_renewed_grant_is_taken_up_by_what_serves(home: Home, site: Site) -> None:
    bundle = bundle_until(home, site, Validity(not_after=NOW + DAY))
    put(bundle, site)
    before = read_state(site.current, site.key_id).seen
    with open_served(site) as opened, watched(site, opened) as watch:
        assert watch.standing().state == "ending"
        assert read_state(site.current, site.key_id).seen >= before
        watch.started += 2 * DAY
        assert watch.standing().state == "ended"
        home.grant(bundle, site, renew=True, validity=Validity(not_after=NOW + 400 * DAY))
        put(bundle, site)
        watch.look()
        assert watch.standing().state == "valid"


def test_a_clock_set_back_while_serving_does_not_stop_the_time(
    home: Home, site: Site, at: Callable[[int], None]
) -> None:
    put(bundle_until(home, site, Validity(not_after=NOW + DAY)), site)
    with open_served(site) as opened, watched(site, opened) as watch:
        at(0)
        assert watch.now() >= NOW
        watch.started += 5 * DAY  # as if five days had gone by
        note_time(site, watch.now())
    at(NOW + 3 * DAY)
    with pytest.raises(EnvironmentUnfit, match="the clock says"):
        open_current(site.path)


def test_servers_are_counted(tmp_path: Path) -> None:
    with instance(tmp_path, 2), instance(tmp_path, 2):
        with pytest.raises(Refused, match="for 2 servers at once"), instance(tmp_path, 2):
            pass
        with instance(tmp_path, None):
            pass
    with instance(tmp_path, 1):
        pass


def test_two_servers_that_start_at_once_take_one_slot_once(tmp_path: Path) -> None:
    won: list[int] = []
    go = threading.Barrier(8)

    def start(number: int) -> None:
        go.wait()
        try:
            with instance(tmp_path, 1):
                won.append(number)
                held.wait(10)
        except Refused:
            lost.release()

    held, lost = threading.Event(), threading.Semaphore(0)
    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert lost.acquire(timeout=10)
    held.set()
    for thread in threads:
        thread.join()
    assert len(won) == 1
