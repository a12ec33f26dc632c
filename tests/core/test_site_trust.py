"""Roots, rotation and revocation, at the publisher and on a site. Cases 19, 32 and 33 of the bundle design."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seal_parts import Home, canonical, copy_of, flipped, make_home, overwrite, put, snapshot

import toolkit.site.trust as site_trust
from toolkit.errors import IntegrityError, Refused, UsageError
from toolkit.seal.envelope import add_signatures
from toolkit.seal.keyfile import create_signing_key, key_facts, load_signing_key
from toolkit.seal.keys import KeyRing, home_trust, init_keys, key_path, load_keys
from toolkit.seal.recipient import load_recipient
from toolkit.seal.revocation import Revocation, parse_list, sign_list
from toolkit.seal.rotation import DRAFT, changes, revoke, rotate, sign_draft
from toolkit.seal.suites import DUAL_SUITE, SUITE, suite_of
from toolkit.seal.trust import MAX_SIGNERS, load_trust, parse_trust, root_payload, sign_root
from toolkit.seal.validity import DAY
from toolkit.seal.verify import verify_bundle
from toolkit.site.audit import AuditLog
from toolkit.site.current import open_current, open_served
from toolkit.site.layout import Site, init_site, open_site
from toolkit.site.rollback import rollback
from toolkit.site.standing import standing_of
from toolkit.site.state import read_state
from toolkit.site.trust import accept_list, accept_root, rotate_recipient
from toolkit.site.verify import verify_site
from toolkit.site.watch import watched

PASSPHRASE = "a long enough passphrase"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def site(home: Home) -> Site:
    return home.site()


def keys_folder(home: Home) -> Path:
    return home.path / "keys"


def reloaded(home: Home) -> Home:
    return Home(home.path, load_keys(keys_folder(home), None))


def listed(home: Home, *ids: str, days: int = 90) -> bytes:
    return revoke(keys_folder(home), [Revocation(one, "stolen") for one in ids], None, days=days).data


def again(site: Site) -> Site:
    return open_site(site.path, site.passphrase)


def serving(site: Site) -> bytes:
    with open_current(site.path) as opened:
        return opened.read("model")


def last_event(site: Site) -> str:
    return [entry.event for entry in site.audit.entries()][-1]


# --- rotation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["publisher", "issuer", "revocation"])
def test_a_rotated_role_has_a_new_key_and_what_the_old_one_signed_stays(role: str, home: Home, site: Site) -> None:
    old = home.granted(site, b"old")
    before = snapshot(old.path)
    made = rotate(keys_folder(home), role, None)
    assert (made.missing, made.trust.version) == (0, 2)
    assert not (keys_folder(home) / "next").exists() or not list((keys_folder(home) / "next").iterdir())
    new = reloaded(home)
    assert snapshot(old.path) == before
    assert accept_root(site, made.trust.data).changed
    assert not accept_root(again(site), made.trust.data).changed
    put(old.path, again(site))
    put(new.granted(again(site), b"new").path, again(site))
    assert serving(site) == b"new"
    assert verify_site(site.path).site.trust.version == 2
    assert len(list((keys_folder(home) / "retired").iterdir())) == 1


def test_a_bundle_of_a_new_publisher_needs_the_new_root(home: Home, site: Site) -> None:
    rotate(keys_folder(home), "publisher", None)
    sealed = reloaded(home).granted(site)
    with pytest.raises(IntegrityError, match="whom the trust root does not name"):
        put(sealed.path, site)


def test_case_33_root_rotation_needs_old_and_new(home: Home, site: Site, tmp_path: Path) -> None:
    old = load_signing_key(key_path(keys_folder(home), "root"), "root", None)
    new = create_signing_key(tmp_path / "new", "root", None)
    trust = home.keys.trust
    payload = root_payload(
        version=2, roots=[new.key_id], threshold=1, publishers=trust.publishers, issuers=trust.issuers,
        revokers=trust.revokers, development=True,
    )  # fmt: skip
    with pytest.raises(IntegrityError, match="0 of the old root's keys"):
        accept_root(site, sign_root(payload, [new]))
    assert last_event(site) == "root.refused"
    with pytest.raises(IntegrityError, match="not signed by 1 of the root keys that it names"):
        accept_root(site, sign_root(payload, [old]))
    assert again(site).trust.version == 1
    assert accept_root(site, sign_root(payload, [old, new])).version == 2
    with pytest.raises(IntegrityError, match="0 of the old root's keys"):
        accept_root(again(site), sign_root(payload | {"version": 3, "roles": trust_roles(home, old.key_id)}, [old]))


def trust_roles(home: Home, root: str) -> dict[str, object]:
    trust = home.keys.trust
    payload = root_payload(
        version=3, roots=[root], threshold=1, publishers=trust.publishers, issuers=trust.issuers,
        revokers=trust.revokers, development=True,
    )  # fmt: skip
    roles = payload["roles"]
    assert isinstance(roles, dict)
    return roles


def test_case_33_a_threshold_of_two_of_three_counts_signers_not_signatures(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    ring = init_keys(folder, PASSPHRASE, suite=DUAL_SUITE, root_keys=3, threshold=2)
    assert (len(ring.trust.roots), ring.trust.threshold) == (3, 2)
    site = init_site(tmp_path / "site", ring.trust)
    safe = tmp_path / "safe" / "keys"
    safe.mkdir(parents=True)
    for name in ("root-2", "root-3"):
        key_path(folder, name).rename(key_path(safe, name))
    (safe / "root.json").write_bytes(ring.trust.data)
    made = rotate(folder, "publisher", PASSPHRASE)
    assert (made.missing, made.path.name) == (1, DRAFT)
    with pytest.raises(IntegrityError, match="not signed by 2"):
        accept_root(site, made.path.read_bytes())
    with pytest.raises(UsageError, match="still waits"):
        rotate(folder, "issuer", PASSPHRASE)
    assert load_keys(folder, PASSPHRASE).trust.version == 1, "until then the home goes on as it was"
    travelling = tmp_path / "usb.json"
    shutil.copy(made.path, travelling)
    assert sign_draft(safe, travelling, PASSPHRASE).missing == 0
    shutil.copy(travelling, made.path)
    done = sign_draft(folder, made.path, PASSPHRASE)
    assert (done.missing, done.trust.version) == (0, 2)
    assert not (folder / DRAFT).exists()
    assert load_keys(folder, PASSPHRASE).publisher.key_id == done.trust.publishers[0] or (
        load_keys(folder, PASSPHRASE).publisher.key_id in done.trust.publishers
    )
    assert accept_root(site, done.trust.data).version == 2


def test_a_rotated_root_key_changes_the_next_root_alone(home: Home, site: Site) -> None:
    first = rotate(keys_folder(home), "root", None)
    assert first.trust.roots != home.keys.trust.roots
    second = rotate(keys_folder(home), "issuer", None)
    with pytest.raises(IntegrityError, match="old root's keys"):
        accept_root(site, second.trust.data)
    accept_root(site, first.trust.data)
    assert accept_root(again(site), second.trust.data).version == 3
    assert verify_site(site.path).site.trust.version == 3
    with pytest.raises(Refused, match="older than version 3"):
        accept_root(again(site), first.trust.data)


def test_a_root_of_the_same_version_and_other_content_is_refused(home: Home, site: Site) -> None:
    twin = Home(home.path, home.keys)
    copy_of(keys_folder(twin), home.path / "twin")
    one = rotate(keys_folder(home), "publisher", None)
    other = rotate(home.path / "twin", "publisher", None)
    accept_root(site, one.trust.data)
    with pytest.raises(IntegrityError, match="and other content"):
        accept_root(again(site), other.trust.data)


def test_a_rotation_to_the_dual_suite(home: Home, site: Site) -> None:
    rotate(keys_folder(home), "publisher", None, suite=DUAL_SUITE)
    made = rotate(keys_folder(home), "issuer", None, suite=DUAL_SUITE)
    assert set(made.trust.suites) == {SUITE, DUAL_SUITE}
    accept_root(site, made.trust.data)
    sealed = reloaded(home).granted(again(site), b"dual")
    assert suite_of(sealed.manifest.signer) == DUAL_SUITE
    put(sealed.path, again(site))
    assert serving(site) == b"dual"


def test_a_rotation_killed_after_its_root_was_written_is_finished_by_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("toolkit.seal.rotation._finish", lambda folder, trust: None)
        made = rotate(keys_folder(home), "publisher", None)
    assert reloaded(home).keys.publisher == home.keys.publisher
    rotate(keys_folder(home), "issuer", None)
    assert reloaded(home).keys.publisher.key_id in made.trust.publishers
    assert reloaded(home).keys.publisher != home.keys.publisher


def test_case_32_recipient_rotation_leaves_payload_bytes_alone(home: Home, site: Site) -> None:
    sealed = home.granted(site, b"weights")
    put(sealed.path, site)
    payload = {name: data for name, data in snapshot(sealed.path).items() if not name.startswith("grants/")}
    old = site.recipient_key().fingerprint
    made = rotate_recipient(site)
    assert made.fingerprint != old
    assert serving(site) == b"weights", "what is installed goes on with the old key"
    verify_site(site.path)
    home.grant(sealed.path, site)
    assert put(sealed.path, again(site)).changed
    assert {n: d for n, d in snapshot(sealed.path).items() if not n.startswith("grants/")} == payload
    with open_current(site.path) as opened:
        assert opened.grant.recipient == made.fingerprint
    rotate_recipient(site)
    verify_site(site.path)
    assert serving(site) == b"weights"


class Killed(BaseException):
    """Where a process ended."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(7))
def test_a_recipient_rotation_killed_in_between_is_taken_up(
    step: int, after: bool, home: Home, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before or after each of its steps: made, begun, moved away, moved in, flushed, told, ended."""
    put(home.granted(site, b"weights").path, site)
    taken = 0

    def killing(do: Callable[..., Any]) -> Callable[..., Any]:
        def step_of(*given: Any, **named: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == step + 1 and not after:
                raise Killed
            made = do(*given, **named)
            if taken == step + 1:
                raise Killed
            return made

        return step_of

    with monkeypatch.context() as patch:
        patch.setattr(site_trust, "create_recipient_key", killing(site_trust.create_recipient_key))
        patch.setattr(AuditLog, "append", killing(AuditLog.append))
        patch.setattr(Path, "replace", killing(Path.replace))
        patch.setattr(site_trust, "flush_folder", killing(site_trust.flush_folder))
        patch.setattr(site_trust, "write_file", killing(site_trust.write_file))
        with pytest.raises(Killed):
            rotate_recipient(site)
    assert taken == step + 1
    made = rotate_recipient(again(site))
    verify_site(site.path)
    assert load_recipient(site.recipient_json) == made
    assert again(site).recipient_key().fingerprint == made.fingerprint
    assert not (site.path / "keys" / "recipient-new.key.json").exists()
    if (step, after) != (6, True):  # that rotation had ended, so there were two
        assert serving(site) == b"weights"
        told = [one.event for one in site.audit.entries() if one.event.startswith("recipient.")]
        assert told == ["recipient.begin", "recipient.done"]


def test_a_site_whose_keys_do_not_open_keeps_its_key_to_receive_with(home: Home, tmp_path: Path) -> None:
    locked = init_site(tmp_path / "locked", home.keys.trust, passphrase=PASSPHRASE)
    put(home.granted(locked, b"weights").path, locked)
    before = snapshot(locked.path)
    for passphrase in (None, "another one"):
        with pytest.raises((UsageError, IntegrityError)):
            rotate_recipient(open_site(locked.path, passphrase))
        assert snapshot(locked.path) == before
    rotate_recipient(open_site(locked.path, PASSPHRASE))
    for name in ("recipient", "recipient-old"):
        assert key_facts(locked.path / "keys" / f"{name}.key.json")[1] == "passphrase"
    with open_current(locked.path, PASSPHRASE) as opened:
        assert opened.read("model") == b"weights"


def test_a_key_that_a_rotation_began_with_and_that_is_gone_is_told(home: Home, site: Site) -> None:
    site.audit.append("recipient.begin", {"recipient": "0" * 64})
    before = snapshot(site.path / "keys")
    with pytest.raises(IntegrityError, match="cannot be finished"):
        rotate_recipient(site)
    assert snapshot(site.path / "keys") == before


def test_a_root_put_into_the_site_by_hand_is_found(home: Home, site: Site) -> None:
    made = rotate(keys_folder(home), "publisher", None)
    accept_root(site, made.trust.data)
    path = site.path / "trust" / "root-2.json"
    for damage in (lambda: overwrite(path, flipped(made.trust.data, 900)), path.unlink,
                   lambda: overwrite(path, home.keys.trust.data)):  # fmt: skip
        damage()
        with pytest.raises(IntegrityError):
            verify_site(site.path)
        path.write_bytes(made.trust.data)
    verify_site(site.path)


def test_an_older_state_with_an_older_root_put_back_is_found(home: Home, site: Site) -> None:
    old = site.current.read_bytes()
    accept_root(site, rotate(keys_folder(home), "publisher", None).trust.data)
    overwrite(site.current, old)
    with pytest.raises(IntegrityError, match="older than its audit trail"):
        verify_site(site.path)


# --- revocation --------------------------------------------------------------------------------------------------


def test_case_19_a_revoked_publisher_key(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    accept_list(site, listed(home, home.keys.publisher.key_id))
    with pytest.raises(IntegrityError, match="whose key was revoked") as error:
        put(sealed.path, again(site))
    assert error.value.exit_code == 4
    assert not list(site.versions.iterdir())
    assert last_event(site) == "install.refused"
    with pytest.raises(IntegrityError, match="revoked: stolen"):
        load_keys(keys_folder(home), None)


def test_case_19_a_revoked_issuer_key(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    data = listed(home, home.keys.issuer.key_id)
    accept_list(site, data)
    with pytest.raises(IntegrityError, match="no grant for this site"):
        put(sealed.path, again(site))
    made = rotate(keys_folder(home), "issuer", None)
    accept_root(again(site), made.trust.data)
    reloaded(home).grant(sealed.path, site)
    assert put(sealed.path, again(site)).changed, "a grant by the new issuer opens, beside the old one"


def test_case_19_a_revoked_recipient(home: Home, site: Site) -> None:
    sealed = home.granted(site, b"weights")
    accept_list(site, listed(home, site.recipient_key().fingerprint))
    with pytest.raises(IntegrityError, match="was revoked: stolen"):
        put(sealed.path, again(site))
    with pytest.raises(IntegrityError, match="was revoked"):
        reloaded(home).grant(sealed.path, site, renew=True)
    rotate_recipient(site)
    reloaded(home).grant(sealed.path, site)
    put(sealed.path, again(site))
    assert serving(site) == b"weights"


def test_case_19_a_revoked_bundle_stops_being_served(home: Home, site: Site) -> None:
    put(home.granted(site, b"one").path, site)
    second = home.granted(site, b"two")
    put(second.path, site)
    with open_served(site) as opened, watched(site, opened) as watch:
        assert watch.standing().state == "unlimited"
        accept_list(site, listed(home, second.manifest.bundle_id))
        watch.look()
        standing = watch.standing()
        assert (standing.state, standing.holds) == ("revoked", False)
        assert "stolen" in standing.message
    with pytest.raises(IntegrityError, match="was revoked"):
        open_current(site.path)
    assert standing_of(again(site), second.manifest.bundle_id)["state"] == "revoked"
    verify_site(site.path)  # it lies there as it was left
    rollback(again(site))
    assert serving(site) == b"one"
    with pytest.raises(IntegrityError, match="was revoked"):
        rollback(again(site), second.manifest.bundle_id)


def test_case_19_a_rolled_back_list(home: Home, site: Site) -> None:
    old = listed(home, "a-bundle-1-000000000000")
    new = listed(home, "a-bundle-2-000000000000")
    assert accept_list(site, new).version == 2
    with pytest.raises(Refused, match="older than version 2") as error:
        accept_list(again(site), old)
    assert error.value.exit_code == 3
    assert last_event(site) == "revoked.refused"
    assert not accept_list(again(site), new).changed
    assert again(site).trust.revoked_ids == {"a-bundle-1-000000000000", "a-bundle-2-000000000000"}
    overwrite(site.path / "trust" / "revoked-2.json", old)
    with pytest.raises(IntegrityError, match="not the list that this site knows"):
        open_site(site.path)


def test_case_19_a_stale_list_takes_nothing_new_and_stops_nothing(
    home: Home, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = home.granted(site, b"one"), home.granted(site, b"two")
    put(first.path, site)
    accept_list(site, listed(home, days=1))
    later = time.time() + 3 * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Refused, match="the revocation list ended"):
        put(second.path, again(site))
    assert serving(site) == b"one"
    assert "the revocation list ended" in standing_of(again(site), first.manifest.bundle_id)["message"]
    accept_list(again(site), listed(home))
    put(second.path, again(site))
    assert serving(site) == b"two"


def test_case_19_a_list_that_has_ended_is_not_accepted(home: Home, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    data = listed(home, days=1)
    later = time.time() + 3 * DAY
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Refused, match="the revocation list ended"):
        accept_list(site, data)


def test_case_19_a_list_by_another_role_is_refused(home: Home, site: Site) -> None:
    for key in (home.keys.publisher, home.keys.issuer):
        data = sign_list(key, version=1, issued=1, expires=2**32, entries=())
        with pytest.raises(IntegrityError, match="whom the trust root does not name for a revoked"):
            accept_list(site, data)
    with pytest.raises(IntegrityError):
        accept_list(site, b"")
    assert [entry.event for entry in site.audit.entries()].count("revoked.refused") == 3


@pytest.mark.parametrize("verb", ["install", "rollback"])
def test_what_is_revoked_while_a_change_waits_for_the_site_is_refused(verb: str, home: Home, site: Site) -> None:
    first, second = home.granted(site, b"first"), home.granted(site, b"second")
    put(first.path, site)
    if verb == "rollback":
        put(second.path, site)
    waited = site  # as it was opened before the list came
    gone = first if verb == "rollback" else second
    accept_list(again(site), listed(home, gone.manifest.bundle_id))
    with pytest.raises(IntegrityError, match="was revoked"):
        rollback(waited) if verb == "rollback" else put(second.path, waited)
    assert last_event(site) == f"{verb}.refused"


def test_a_root_that_a_killed_call_left_is_no_link_of_the_chain(home: Home, site: Site) -> None:
    copy_of(keys_folder(home), home.path / "twin")
    left = rotate(home.path / "twin", "root", None)
    (site.path / "trust" / "root-2.json").write_bytes(left.trust.data)
    rotate(keys_folder(home), "publisher", None)
    accept_root(site, rotate(keys_folder(home), "issuer", None).trust.data)
    assert not (site.path / "trust" / "root-2.json").exists()
    assert verify_site(site.path).site.trust.version == 3


def test_a_list_outlives_the_key_that_signed_it(home: Home, site: Site) -> None:
    accept_list(site, listed(home, "a-bundle-1-000000000000"))
    made = rotate(keys_folder(home), "revocation", None)
    accept_root(again(site), made.trust.data)
    assert again(site).trust.revoked_ids == {"a-bundle-1-000000000000"}
    assert accept_list(again(site), listed(home)).version == 2
    verify_site(site.path)


def test_a_stolen_revocation_key_ends_with_its_rotation(home: Home, site: Site) -> None:
    accept_list(site, listed(home, "a-bundle-1-000000000000"))
    stolen = load_signing_key(key_path(keys_folder(home), "revocation"), "revocation", None)

    def emptied(version: int) -> bytes:
        return sign_list(stolen, version=version, issued=1, expires=2**34, entries=())

    accept_list(again(site), emptied(2**53 - 1))  # until the site hears of the rotation nobody can tell
    made = rotate(keys_folder(home), "revocation", None)
    assert stolen.key_id not in made.trust.revokers
    accept_root(again(site), made.trust.data)
    accept_list(again(site), listed(home, stolen.key_id))
    assert again(site).trust.revoked_ids == {"a-bundle-1-000000000000", stolen.key_id}
    with pytest.raises(IntegrityError, match="whom the trust root does not name"):
        accept_list(again(site), emptied(2**53 - 1))
    with pytest.raises(Refused, match="older than version"):
        accept_list(again(site), reloaded_list(home, version=1))
    verify_site(site.path)


def reloaded_list(home: Home, version: int) -> bytes:
    key = load_signing_key(key_path(keys_folder(home), "revocation"), "revocation", None)
    return sign_list(key, version=version, issued=1, expires=2**34, entries=())


def test_a_revoked_revoker_signs_no_list(home: Home, site: Site) -> None:
    revoker = load_signing_key(key_path(keys_folder(home), "revocation"), "revocation", None)
    accept_list(site, listed(home, revoker.key_id))
    with pytest.raises(IntegrityError, match="was revoked"):
        accept_list(again(site), reloaded_list(home, version=9))


def test_which_root_key_goes_is_named_and_what_is_signed_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    before = init_keys(folder, PASSPHRASE, root_keys=2).trust
    with pytest.raises(UsageError, match="which root key") as asked:
        rotate(folder, "root", PASSPHRASE)
    with pytest.raises(UsageError, match="no root key here begins"):
        rotate(folder, "root", PASSPHRASE, key="zz")
    for old in before.roots:
        assert old[:16] in asked.value.hint
        made = rotate(folder, "root", PASSPHRASE, key=old[:16])
        assert old not in made.trust.roots
    assert made.trust.version == 3
    told = changes(before, made.trust)
    assert sorted(told) == sorted(
        [f"root: {one} goes" for one in before.roots] + [f"root: {one} comes" for one in made.trust.roots]
    )
    draft = tmp_path / "old.json"
    draft.write_bytes(before.data)
    with pytest.raises(Refused, match="older than version 3"):
        sign_draft(folder, draft, PASSPHRASE)
    assert draft.read_bytes() == before.data


def test_a_role_with_as_many_keys_as_a_root_may_name_goes_on_without_the_revoked(home: Home) -> None:
    folder = keys_folder(home)
    first = home.keys.issuer.key_id
    for _ in range(MAX_SIGNERS - 1):
        made = rotate(folder, "issuer", None)
    assert len(made.trust.issuers) == MAX_SIGNERS
    with pytest.raises(UsageError, match="that is the most"):
        rotate(folder, "issuer", None)
    assert made.trust.digest == home_trust(folder).digest
    listed(home, first)
    made = rotate(folder, "issuer", None)
    assert len(made.trust.issuers) == MAX_SIGNERS
    assert first not in made.trust.issuers


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body | {"version": 0}, lambda body: body | {"expires": body["issued"]},
        lambda body: body | {"revoked": [{"id": "../x", "reason": ""}]},
        lambda body: body | {"revoked": [{"id": "a", "reason": ""}, {"id": "a", "reason": "b"}]},
        lambda body: body | {"critical": ["new"]}, lambda body: {k: v for k, v in body.items() if k != "expires"},
    ],
)  # fmt: skip
def test_a_list_that_is_none(change: Callable[[dict[str, object]], dict[str, object]], home: Home) -> None:
    import base64
    import json

    from seal_parts import forge

    key = load_signing_key(key_path(keys_folder(home), "revocation"), "revocation", None)
    body = json.loads(base64.b64decode(json.loads(listed(home, "a"))["payload"]))
    parse_list(forge(canonical(body), "revoked", key), home.keys.trust.revokers)
    with pytest.raises(IntegrityError):
        parse_list(forge(canonical(change(body)), "revoked", key), home.keys.trust.revokers)


def test_an_extra_signature_on_a_root_counts_for_nothing(home: Home, site: Site, tmp_path: Path) -> None:
    stranger = create_signing_key(tmp_path / "s", "root", None)
    trust = home.keys.trust
    root = load_signing_key(key_path(keys_folder(home), "root"), "root", None)
    payload = root_payload(
        version=2, roots=[root.key_id], threshold=1, publishers=trust.publishers, issuers=trust.issuers,
        revokers=trust.revokers, development=True,
    )  # fmt: skip
    signed = sign_root(payload, [root])
    with_more = add_signatures(signed, kind="root", signer=stranger, part="root.json", limit=10**6)
    assert parse_trust(with_more).roots == (root.key_id,)
    assert accept_root(site, with_more).changed
    assert stranger.key_id not in again(site).trust.roots


def test_the_ring_of_a_home_carries_its_list(home: Home) -> None:
    listed(home, "a-bundle-1-000000000000")
    ring: KeyRing = load_keys(keys_folder(home), None)
    assert ring.trust.revoked_ids == {"a-bundle-1-000000000000"}
    assert home_trust(keys_folder(home)).unrevoked() == replace(load_trust(keys_folder(home) / "root.json"))
    sealed = home.seal()
    listed(home, sealed.manifest.bundle_id)
    with pytest.raises(IntegrityError, match="was revoked"):
        verify_bundle(sealed.path, home_trust(keys_folder(home)))


def test_what_a_rotation_cannot_do(home: Home) -> None:
    with pytest.raises(UsageError, match="no role is named"):
        rotate(keys_folder(home), "escrow", None)
    with pytest.raises(UsageError, match="no suite is named"):
        rotate(keys_folder(home), "issuer", None, suite="gm")
    key_path(keys_folder(home), "root").unlink()
    with pytest.raises(UsageError, match="no root key"):
        rotate(keys_folder(home), "issuer", None)
    assert reloaded(home).keys == home.keys
    with pytest.raises(UsageError, match="holds for 1 to"):
        revoke(keys_folder(home), [], None, days=0)


def test_the_state_names_what_it_trusts(home: Home, site: Site) -> None:
    state = read_state(site.current, site.key_id)
    assert (state.root.version, state.root.sha256) == (1, home.keys.trust.digest)
    assert state.revoked.version == 0
