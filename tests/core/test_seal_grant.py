"""Grants. Cases 16, 32 and 36 of the bundle design."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seal_parts import HEADER, Home, body_of, canonical, copy_of, files_of, forge, make_home, put, snapshot

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.escrow import rotate_escrow
from toolkit.seal.grant import grant
from toolkit.seal.grantfile import choose_grant, make_grant, read_grant, unwrap_content_keys
from toolkit.seal.keys import load_keys
from toolkit.seal.open import open_bundle
from toolkit.seal.recipient import load_recipient
from toolkit.seal.verify import read_bundle, verify_bundle
from toolkit.site.current import open_current


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def payload(bundle: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(bundle)): path.read_bytes()
        for path in files_of(bundle) if path.parent.name != "grants"
    }  # fmt: skip


def test_a_grant_opens_the_bundle_for_its_recipient_alone(home: Home) -> None:
    mine, other = home.site("mine"), home.site("other")
    sealed = home.granted(mine, b"weights")
    with open_bundle(sealed.path, home.keys.trust, mine.recipient_key()) as opened:
        assert opened.read("model") == b"weights"
    with pytest.raises(IntegrityError, match="no grant for this site"):
        open_bundle(sealed.path, home.keys.trust, other.recipient_key())
    with pytest.raises(IntegrityError, match="no grant for this site"):
        put(sealed.path, other)


def test_a_new_recipient_leaves_the_payload_alone(home: Home) -> None:
    sealed = home.granted(home.site("one"))
    before = payload(sealed.path)
    home.grant(sealed.path, home.site("two"))
    home.grant(sealed.path, home.site("one"), renew=True)
    assert payload(sealed.path) == before
    assert len(read_bundle(sealed.path, home.keys.trust).grants) == 3
    for name in ("one", "two"):
        with open_bundle(sealed.path, home.keys.trust, home.site(name).recipient_key()) as opened:
            assert opened.read("model") == b"the weights"


def test_granting_twice_gives_the_grant_there_is(home: Home) -> None:
    sealed = home.seal()
    site = home.site()
    assert home.grant(sealed.path, site) == home.grant(sealed.path, site)
    first = home.grant(sealed.path, site)
    assert home.grant(sealed.path, site, renew=True) != first


def test_a_new_escrow_pair_grants_what_was_sealed_before_and_a_rotation_cut_short_goes_on(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = [home.seal(), home.seal()]
    folder, before, left = home.path / "keys", [snapshot(one.path) for one in bundles], iter([True, False, False])

    def cut_short(*args: Any, **named: Any) -> Any:
        assert next(left), "cut short"
        return make_grant(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr("toolkit.seal.escrow.make_grant", cut_short)
        with pytest.raises(AssertionError, match="cut short"):
            rotate_escrow(folder, home.escrow, None)
    made = rotate_escrow(folder, home.escrow, None)
    assert made.grants == 2
    after = replace(home, keys=load_keys(folder, None))
    assert after.keys.escrow.fingerprint == made.fingerprint != home.keys.escrow.fingerprint
    assert [snapshot(one.path) for one in bundles] == before
    for sealed in bundles:
        after.grant(sealed.path, after.site())
        with open_bundle(sealed.path, after.keys.trust, after.site().recipient_key()) as opened:
            assert opened.read("model")
    with pytest.raises(UsageError, match="made for other keys"):
        home.grant(bundles[0].path, home.site("late"))
    assert len(list((folder / "retired").iterdir())) == 1
    assert rotate_escrow(folder, home.escrow, None).fingerprint != made.fingerprint


def test_a_damaged_escrow_grant_stops_a_rotation_before_it_changes_anything(home: Home) -> None:
    sealed = {one.manifest.bundle_id: one for one in (home.seal(), home.seal())}
    whole, damaged = sorted(home.escrow.glob("*.dsse"))
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-5])
    with pytest.raises(IntegrityError):
        rotate_escrow(home.path / "keys", home.escrow, None)
    after = replace(home, keys=load_keys(home.path / "keys", None))
    after.grant(sealed[whole.stem].path, home.site("one"))
    damaged.write_bytes(data)
    assert rotate_escrow(home.path / "keys", home.escrow, None).grants == 2


def test_what_was_sealed_for_the_pair_that_went_is_taken_up_by_the_next_rotation(home: Home) -> None:
    rotate_escrow(home.path / "keys", home.escrow, None)
    late = home.seal()  # by a process that had read its keys before
    with pytest.raises(UsageError, match="made for other keys") as caught:
        replace(home, keys=load_keys(home.path / "keys", None)).grant(late.path, home.site())
    assert "toolkit keys rotate escrow" in caught.value.hint
    rotate_escrow(home.path / "keys", home.escrow, None)
    replace(home, keys=load_keys(home.path / "keys", None)).grant(late.path, home.site())


def test_serials_rise(home: Home) -> None:
    site = home.site()
    serials = []
    for sealed in (home.seal(), home.seal()):
        for _ in range(2):
            data = home.grant(sealed.path, site, renew=True).read_bytes()
            serials.append(read_grant(data, home.keys.trust, part="it").serial)
    assert serials == sorted(set(serials))


def test_a_grant_for_another_bundle(home: Home) -> None:
    site = home.site()
    one, two = home.granted(site), home.seal()
    theirs = next((one.path / "grants").iterdir())
    (two.path / "grants").mkdir()
    (two.path / "grants" / theirs.name).write_bytes(theirs.read_bytes())
    with pytest.raises(IntegrityError, match="issued for another bundle") as error:
        verify_bundle(two.path, home.keys.trust)
    assert error.value.part == f"grants/{theirs.name}"


def test_a_grant_under_another_name(home: Home) -> None:
    sealed = home.granted(home.site())
    path = next((sealed.path / "grants").iterdir())
    path.rename(path.with_name("0" * 32 + ".dsse"))
    with pytest.raises(IntegrityError, match="another name"):
        verify_bundle(sealed.path, home.keys.trust)


@pytest.mark.parametrize("name", ["not_before", "not_after", "grace_days", "max_instances"])
@pytest.mark.parametrize(
    "value", [-1, "2030-02-30T00:00:00Z", "2030-01-01", "2027-06-30T23:59:60Z", [], False, 2**53 - 1]
)
def test_a_condition_that_is_none_opens_nothing(name: str, value: object, home: Home) -> None:
    sealed = home.granted(home.site())
    path = next((sealed.path / "grants").iterdir())
    path.write_bytes(forge(canonical(body_of(path) | {name: value}), "grant", home.keys.issuer))
    with pytest.raises(IntegrityError):
        verify_bundle(sealed.path, home.keys.trust)
    body = body_of(path)
    del body[name]
    path.write_bytes(forge(canonical(body), "grant", home.keys.issuer))
    with pytest.raises(IntegrityError, match=name):
        verify_bundle(sealed.path, home.keys.trust)


@pytest.mark.parametrize("change", [{"serial": 99}, {"issued": "2020-01-01T00:00:00Z"}, {"extra": "x"}])
def test_a_wrap_is_bound_to_every_term_of_its_grant(change: dict[str, object], home: Home) -> None:
    # Even the issuer's own signature over changed terms does not move a wrapped key into them.
    site = home.site()
    sealed = home.granted(site)
    path = next((sealed.path / "grants").iterdir())
    path.write_bytes(forge(canonical(body_of(path) | change), "grant", home.keys.issuer))
    verify_bundle(sealed.path, home.keys.trust)
    with pytest.raises(IntegrityError, match="does not open"):
        open_bundle(sealed.path, home.keys.trust, site.recipient_key())


def test_a_grant_for_one_variant_cannot_be_relabelled_for_another(home: Home) -> None:
    site = home.site()
    sealed = home.granted(site)
    path = next((sealed.path / "grants").iterdir())
    body = body_of(path)
    body["keys"][0]["variant"] = "edge-arm64"
    path.write_bytes(forge(canonical(body), "grant", home.keys.issuer))
    found = choose_grant(read_bundle(sealed.path, home.keys.trust).grants, site.recipient_key())
    with pytest.raises(IntegrityError, match="does not open"):
        unwrap_content_keys(found, site.recipient_key())


def test_a_grant_that_opens_no_variant_of_the_bundle(home: Home) -> None:
    site = home.site()
    sealed = home.granted(site)
    with pytest.raises(IntegrityError, match="opens no variant"):
        open_bundle(sealed.path, home.keys.trust, site.recipient_key(), variant="edge-arm64")


def test_the_content_key_of_one_variant_is_not_that_of_another(home: Home) -> None:
    ids = {
        home.seal(header=replace(HEADER, variant=name)).manifest.variants[0].files[0].key_id
        for name in ("x86-server", "edge-arm64")
    }
    assert len(ids) == 2


def test_case_16_an_older_grant_than_the_one_installed_is_refused(home: Home, tmp_path: Path) -> None:
    site = home.site()
    sealed = home.granted(site)
    old = copy_of(sealed.path, tmp_path / "old")
    home.grant(sealed.path, site, renew=True)
    first = put(old, site)
    newer = put(sealed.path, site)
    assert newer.changed
    assert newer.grant_id != first.grant_id
    with pytest.raises(IntegrityError, match="older than the grant installed"):
        put(old, site)
    with open_current(site.path) as opened:
        assert opened.grant_id == newer.grant_id
        assert opened.read("model") == b"the weights"


def test_the_escrow_never_lies_in_the_bundle(home: Home) -> None:
    sealed = home.seal()
    assert not (sealed.path / "grants").exists()
    assert [path.name for path in home.escrow.glob("*.dsse")] == [f"{sealed.manifest.bundle_id}.dsse"]
    assert (home.escrow / f"{sealed.manifest.bundle_id}.dsse").stat().st_mode & 0o077 == 0


def test_without_the_escrow_nothing_is_granted(home: Home, tmp_path: Path) -> None:
    sealed, site = home.seal(), home.site()
    with pytest.raises(UsageError, match="no escrow grant"):
        grant(sealed.path, load_recipient(site.recipient_json), home.keys, tmp_path / "elsewhere")
    escrow = home.escrow / f"{sealed.manifest.bundle_id}.dsse"
    escrow.write_bytes(escrow.read_bytes().replace(b"A", b"B", 1))
    with pytest.raises(IntegrityError):
        home.grant(sealed.path, site)


def test_an_altered_bundle_is_not_granted(home: Home) -> None:
    sealed = home.seal()
    (sealed.path / "LICENSES" / "teacher.txt").write_bytes(b"MIT")
    with pytest.raises(IntegrityError):
        home.grant(sealed.path, home.site())


def test_a_stranger_cannot_grant(home: Home, tmp_path: Path) -> None:
    sealed = home.seal()
    stranger = make_home(tmp_path / "stranger")
    with pytest.raises(IntegrityError):
        grant(sealed.path, load_recipient(home.site().recipient_json), stranger.keys, home.escrow)
