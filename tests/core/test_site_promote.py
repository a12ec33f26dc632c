"""Trials and promotions on a site, several products on one, and what is taken back by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from seal_parts import DOMAINS, HEADER, Home, body_of, canonical, forge, make_home, put

from toolkit.errors import IntegrityError, Refused, UsageError
from toolkit.site.install import KEEP, install, permille_of
from toolkit.site.layout import Site
from toolkit.site.rollback import promote, rollback, withdraw
from toolkit.site.state import Served, State, read_state, versions_of
from toolkit.site.verify import verify_site


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def state_of(site: Site) -> State:
    return read_state(site.current, site.key_id)


def add(home: Home, model: bytes, product: str = "industry", permille: int = 1000) -> str:
    site = home.site()
    sealed = home.seal(model, dataclasses.replace(HEADER, product=product))
    home.grant(sealed.path, site)
    done = install(sealed.path, site, check=lambda manifest: (), domains=DOMAINS, permille=permille)
    return done.bundle_id


def test_a_trial_begins_grows_and_ends(home: Home) -> None:
    site, one = home.site(), add(home, b"one")
    two = add(home, b"two", permille=100)
    assert state_of(site).served == (Served("industry", one, two, 100),)
    assert promote(site, permille=500).changed
    assert not promote(site, two, permille=500).changed
    assert verify_site(site.path).state.served == (Served("industry", one, two, 500),)
    shown = versions_of(state_of(site))[0]["versions"]
    assert [(row["bundle"], row["state"], row["share"]) for row in shown] == [
        (one, "serving", 0.5), (two, "canary", 0.5),
    ]  # fmt: skip
    assert rollback(site).bundle_id == one, "with a canary on trial, going back is ending the trial"
    assert state_of(site).served == (Served("industry", one),)
    assert promote(site, two).bundle_id == two
    assert verify_site(site.path).state.current == two
    assert rollback(site).bundle_id == one
    last = site.audit.read()[-1]
    assert (last.event, last.details["from"], last.details["serves"]) == ("rollback.done", two, one)


def test_what_a_promotion_refuses(home: Home) -> None:
    site = home.site()
    with pytest.raises(UsageError, match="nothing of industry"):
        add(home, b"one", permille=100)
    one = add(home, b"one")
    with pytest.raises(UsageError, match="no version is on trial"):
        promote(site)
    with pytest.raises(UsageError, match="is the current version"):
        promote(site, one, permille=100)
    with pytest.raises(Refused, match="does not keep"):
        promote(site, "industry-9-000000000000")
    for share in (-0.1, 1.1, 0.0001, float("nan")):
        with pytest.raises(UsageError):
            permille_of(share)
    assert state_of(site).served == (Served("industry", one),)


def test_each_product_has_its_own_versions(home: Home) -> None:
    site = home.site()
    ours = [add(home, bytes([number])) for number in range(KEEP + 1)]
    theirs = [add(home, bytes([number]), "paint") for number in range(2)]
    state = verify_site(site.path).state
    assert state.served == (Served("industry", ours[-1]), Served("paint", theirs[-1]))
    assert {one.bundle_id for one in state.kept} == {*ours[1:], *theirs}
    with pytest.raises(UsageError, match="whose version"):
        rollback(site)
    assert rollback(site, product="paint").bundle_id == theirs[0]
    assert rollback(site, ours[1]).bundle_id == ours[1]
    with pytest.raises(UsageError, match="not of paint"):
        rollback(site, ours[2], product="paint")
    assert verify_site(site.path).state.served == (Served("industry", ours[1]), Served("paint", theirs[0]))


def test_who_answers_is_kept_however_old(home: Home) -> None:
    site = home.site()
    ours = [add(home, bytes([number])) for number in range(KEEP)]
    rollback(site, ours[0])
    trial = add(home, b"trial", permille=10)
    kept = {one.bundle_id for one in verify_site(site.path).state.kept}
    assert {ours[0], trial} < kept
    assert len(kept) == KEEP


def test_a_server_takes_back_what_does_not_serve(home: Home) -> None:
    site, one = home.site(), add(home, b"one")
    two, three = add(home, b"two"), add(home, b"three")
    assert withdraw(site, three, "it answers otherwise here")
    assert not withdraw(site, three, "so says the second worker")
    state = verify_site(site.path).state
    assert (state.current, [failed.bundle_id for failed in state.failed]) == (two, [three])
    assert withdraw(site, two, "neither does this")
    assert not withdraw(site, one, "there is nothing before it")
    rows = {row["bundle"]: row for row in versions_of(state_of(site))[0]["versions"]}
    assert (rows[one]["state"], rows[two]["state"], rows[two]["why"]) == ("serving", "failed", "neither does this")
    promote(site, three)
    assert [failed.bundle_id for failed in verify_site(site.path).state.failed] == [two], "it is given another try"
    assert rollback(site).bundle_id == one, "what failed is passed over"


def test_a_canary_that_does_not_serve_ends_its_trial(home: Home) -> None:
    site, one = home.site(), add(home, b"one")
    two = add(home, b"two", permille=100)
    assert withdraw(site, two, "it faults")
    state = verify_site(site.path).state
    assert (state.served, state.failed[0].bundle_id) == ((Served("industry", one),), two)


def as_before(site: Site, **changes: object) -> None:
    """The state as distil-site/2 had it: one `current`."""
    body = body_of(site.current)
    body |= {"format": "distil-site/2", "current": body["served"][0]["bundle_id"], **changes}
    del body["served"], body["failed"]
    site.current.write_bytes(forge(canonical(body), "site-state", site.signer()))


def test_a_state_of_before_is_read_and_written_anew(home: Home) -> None:
    site, one = home.site(), add(home, b"one")
    as_before(site)
    assert verify_site(site.path).state.served == (Served("industry", one),)
    two = add(home, b"two")
    assert body_of(site.current)["format"] == "distil-site/3"
    assert verify_site(site.path).state.current == two
    as_before(site, current="industry-9-000000000000")
    with pytest.raises(IntegrityError, match="does not keep"):
        verify_site(site.path)


def test_a_state_that_contradicts_itself_or_the_trail_is_refused(home: Home) -> None:
    site, one = home.site(), add(home, b"one")
    two = add(home, b"two")
    for served in (
        [Served("industry", one)], [Served("paint", two)], [Served("industry", two)] * 2, [],
        [Served("industry", two, one, 10)], [Served("industry", two, "industry-9-000000000000", 10)],
    ):  # fmt: skip
        body = body_of(site.current) | {"served": [dataclasses.asdict(one) for one in served]}
        data = site.current.read_bytes()
        site.current.write_bytes(forge(canonical(body), "site-state", site.signer()))
        with pytest.raises(IntegrityError):
            verify_site(site.path)
        site.current.write_bytes(data)
    assert verify_site(site.path).state.current == two


def test_installing_what_is_there_changes_nothing(home: Home) -> None:
    site = home.site()
    sealed = home.granted(site, b"one")
    assert put(sealed.path, site).changed
    assert not put(sealed.path, site).changed
