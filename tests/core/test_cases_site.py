"""Cases 16, 18, 34 to 36 and 38 of the bundle design: whose it is, how old, what is written down, and who taught it."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from case_parts import (
    MODEL,
    content_keys,
    installed,
    not_installed,
    plaintext,
    refusal,
    regrant,
    republish,
    run,
)
from seal_parts import HEADER, Home, body_of, canonical, copy_of, flipped, forge, resign, snapshot

from toolkit.errors import IntegrityError
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.cipher import content_key_id, encrypt_file, file_context, new_content_key, plaintext_mac
from toolkit.seal.open import open_bundle
from toolkit.site.current import open_current
from toolkit.site.layout import Site
from toolkit.site.verify import verify_site


def test_case_16_a_grant_for_another_recipient(home: Home, sealed: SealedBundle) -> None:
    assert not_installed(sealed.path, home, site=home.site("other")).part == "grants/"


def test_case_16_a_grant_for_another_bundle_or_manifest(home: Home, sealed: SealedBundle) -> None:
    other = home.granted(home.site(), MODEL)
    shutil.rmtree(sealed.path / "grants")
    shutil.copytree(other.path / "grants", sealed.path / "grants")
    assert not_installed(sealed.path, home).part.startswith("grants/")
    # The same bundle, under a manifest that was signed later.
    shutil.copytree(other.path / "grants", other.path.parent / "kept")
    resign(other.path, home.keys, lambda body: body.update(rung="another"))
    assert not_installed(other.path, home).part.startswith("grants/")


def serving(site: Site) -> str:
    with open_current(site.path) as opened:
        return opened.manifest.bundle_id


def test_case_18_a_lower_counter_and_the_same_with_another_hash(home: Home) -> None:
    site = home.site()
    old, new = home.granted(site, MODEL), home.granted(site, MODEL + b"2")
    installed(new.path, home)
    assert "older than what was installed" in not_installed(old.path, home, 3).message
    twin = republish(home, new, lambda body: body.update(rung="another"))
    assert "another content" in not_installed(twin, home).message
    assert serving(site) == new.manifest.bundle_id


def test_case_18_recovery_from_a_counter_run_far_ahead(home: Home) -> None:
    """Whoever had the publisher's key signed the highest counter there is. The next epoch starts again."""
    site = home.site()
    first = home.granted(site, MODEL)
    installed(first.path, home)
    (home.bundles / ".counters" / "industry").write_text(str(2**53 - 2))
    ahead = home.granted(site, MODEL + b"ahead")
    installed(ahead.path, home)
    shutil.rmtree(home.bundles)
    stuck = home.granted(site, MODEL + b"stuck")
    not_installed(stuck.path, home, 3)
    recovered = home.seal(MODEL + b"recovered", header=replace(HEADER, epoch=2))
    home.grant(recovered.path, site)
    installed(recovered.path, home)
    # The old epoch is over: neither what came before nor a still higher counter of it comes back but by rollback.
    not_installed(stuck.path, home, 3)
    assert run("rollback", "--to", ahead.manifest.bundle_id).code == 0
    assert serving(site) == ahead.manifest.bundle_id
    assert run("rollback", "--to", recovered.manifest.bundle_id).code == 0
    higher = home.seal(MODEL, header=replace(HEADER, epoch=1))
    home.grant(higher.path, site)
    not_installed(higher.path, home, 3)


def test_case_18_rollback_only_to_what_is_kept(home: Home) -> None:
    site = home.site()
    bundles = [home.granted(site, MODEL + bytes([n])) for n in range(5)]
    for one in bundles:
        installed(one.path, home)
    ids = [one.manifest.bundle_id for one in bundles]
    for gone in (ids[0], ids[1], "industry-9-000000000000", "../versions"):
        refusal(run("rollback", "--to", gone, "--json"), 3)
        last = list(site.audit.entries())[-1]
        assert (last.event, last.details["to"]) == ("rollback.refused", gone)
    assert run("rollback").code == 0
    assert serving(site) == ids[3]  # N-1 is kept
    assert verify_site(site.path).state.current == ids[3]


TRAIL: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": lambda lines: [lines[0], flipped(lines[1], 801), *lines[2:]],
    "deleted": lambda lines: [lines[0], *lines[2:]],
    "reordered": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "repeated": lambda lines: [*lines, lines[-1]],
    "tail cut": lambda lines: lines[:-1],
    "emptied": lambda lines: [],
}


@pytest.mark.parametrize("how", TRAIL)
def test_case_34_a_trail_that_was_altered(how: str, home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    installed(sealed.path, home)
    log = site.path / "audit" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(TRAIL[how](lines)))
    altered = snapshot(site.path)
    newer = home.granted(site, MODEL + b"2")
    for words in (
        ("audit", "verify"),
        ("verify", site.path),
        ("install", newer.path),
        ("rollback",),
        ("audit", "head"),
    ):
        assert refusal(run(*words, "--json"), 4).part.startswith("audit/log.jsonl")
    assert snapshot(site.path) == altered


def test_case_34_a_tail_cut_with_its_head_shows_against_an_exported_head(home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    old = copy_of(site.path / "audit", home.path / "old-audit")
    installed(sealed.path, home)
    head = run("audit", "head").out.strip()
    assert run("audit", "verify", "--head", head).code == 0
    shutil.rmtree(site.path / "audit")
    old.rename(site.path / "audit")
    assert run("audit", "verify").code == 0  # nothing on the site itself can tell
    assert "tail was cut" in refusal(run("audit", "verify", "--head", head, "--json"), 4).message
    # The state can: it names a version that the trail does not know.
    assert refusal(run("verify", site.path, "--json"), 4).part == "current"


def test_case_35_a_tampered_database_changes_nothing(home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    installed(sealed.path, home)
    before = [run(*words, "--json") for words in (("verify", sealed.path), ("verify", site.path), ("status",))]
    assert run("runs", "--json").code == 0  # makes the database
    database = next(path for path in home.path.glob("*") if path.suffix in (".db", ".sqlite"))
    with sqlite3.connect(database) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
            connection.execute(f'DELETE FROM "{table}"')
    connection.close()
    for garbage in (None, b"", b"not a database"):
        if garbage is not None:
            database.write_bytes(garbage)
        again = [run(*words, "--json") for words in (("verify", sealed.path), ("verify", site.path), ("status",))]
        assert again == before
        assert not run("install", sealed.path, "--json").record["changed"]


@pytest.mark.parametrize("change", [{"current": ""}, {"marks": []}, {"kept": []}])
def test_case_35_a_state_that_the_site_did_not_sign(change: dict[str, Any], home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    installed(sealed.path, home)
    body = body_of(site.current) | change
    for data in (forge(canonical(body), "site-state", home.keys.publisher), canonical(body), b"", b"{}"):
        site.current.write_bytes(data)
        for words in (("verify", site.path), ("status",), ("install", sealed.path), ("rollback",), ("serve",)):
            assert refusal(run(*words, "--json"), 4).part == "current"
        assert site.current.read_bytes() == data


def test_case_36_an_x86_grant_cannot_open_the_arm_variant(home: Home, sealed: SealedBundle) -> None:
    x86, arm = content_keys(home, sealed.manifest.bundle_id)["cpu"], new_content_key()
    context = file_context(product="industry", bundle_id=sealed.manifest.bundle_id, variant="arm", path="model")
    pieces: list[bytes] = []
    encrypt_file(MODEL, arm, context, lambda piece: pieces.append(bytes(piece)))
    blob = b"".join(pieces)
    digest = hashlib.sha256(blob).hexdigest()
    (sealed.path / "blobs" / "sha256" / digest).write_bytes(blob)

    def second(body: dict[str, Any]) -> None:
        first = body["variants"][0]
        file = first["files"][0] | {
            "cipher_sha256": digest, "cipher_size": len(blob), "key_id": content_key_id(arm),
            "mac": plaintext_mac(arm, MODEL),
        }  # fmt: skip
        body["variants"].append(first | {"name": "arm", "files": [file]})

    republish(home, sealed, second)
    key = home.site().recipient_key()
    with open_bundle(sealed.path, home.keys.trust, key) as opened:
        assert opened.variant.name == "cpu"
    with pytest.raises(IntegrityError, match="opens no variant arm"):
        open_bundle(sealed.path, home.keys.trust, key, variant="arm")
    regrant(home, sealed.path, {"arm": x86})  # an issuer who mixes them up
    assert not_installed(sealed.path, home).part.startswith("grants/")
    regrant(home, sealed.path, {"arm": arm})
    with open_bundle(sealed.path, home.keys.trust, key) as opened:
        assert (opened.variant.name, opened.read("model")) == ("arm", MODEL)


@pytest.mark.parametrize("distillation", ["forbidden", "unknown"])
def test_case_38_a_forbidden_or_unknown_teacher(
    distillation: str, home: Home, sealed: SealedBundle, tmp_path: Path
) -> None:
    """A publisher may sign what our own `seal` refuses; the site refuses it too."""
    republish(home, sealed, lambda body: body["teacher"].update(distillation=distillation))
    assert "licence of efficientnet" in not_installed(sealed.path, home, 3).message
    if distillation == "unknown":
        republish(home, sealed, lambda body: body.update(overrides=["asked the author on 1 May"]))
        installed(sealed.path, home)
    assert not plaintext(tmp_path)
