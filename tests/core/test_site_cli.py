"""The verbs on keys, bundles and sites, as a user types them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from seal_parts import HEADER, Home, blob_of, flipped, make_home, put
from typer.testing import CliRunner

from toolkit.cli import audit, bundle, grant, install, keys, rollback, site, status, verify
from toolkit.errors import EnvironmentUnfit, IntegrityError, Refused, ToolkitError, UsageError
from toolkit.seal.keys import load_keys
from toolkit.seal.manifest import DomainRef, LicenceRecord
from toolkit.seal.suites import DUAL_SUITE
from toolkit.site.layout import open_site


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLKIT_PASSPHRASE_FILE", raising=False)
    return make_home(tmp_path / "home")


def verbs() -> typer.Typer:
    app = typer.Typer()
    for group, name in ((keys, "keys"), (site, "site"), (audit, "audit"), (bundle, "bundle")):
        app.add_typer(group.app, name=name)
    for verb in (grant.grant, verify.verify, install.install, rollback.rollback, status.status):
        app.command()(verb)
    return app


def run(*arguments: object) -> str:
    result = CliRunner().invoke(verbs(), [str(argument) for argument in arguments])
    if isinstance(result.exception, ToolkitError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def record(*arguments: object) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


def test_the_way_of_a_production_bundle(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(home.path / "keys")
    (tmp_path / "passphrase").write_text("a long enough passphrase\n")
    with pytest.raises(UsageError, match="need a passphrase"):
        run("keys", "init")
    monkeypatch.setenv("TOOLKIT_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    made = record("keys", "init")
    assert made["custody"] == "passphrase"
    assert record("keys", "list") == made
    plant = record("site", "init", tmp_path / "plant", "--trust", made["trust"], "--name", "plant 7")
    assert (plant["root"], plant["custody"]) == (made["root"], "passphrase")
    with pytest.raises(UsageError, match="already"):
        run("keys", "init")


def test_grant_verify_status_rollback_and_audit(home: Home) -> None:
    plant = home.site()
    sealed = home.seal(b"one")
    bundle_id = sealed.manifest.bundle_id
    granted = record("grant", bundle_id, "--to", plant.recipient_json)
    assert Path(granted["grant"]).parent == sealed.path / "grants"
    for name in (bundle_id, sealed.path):
        checked = record("verify", name)
        assert (checked["ok"], checked["grants"], checked["files"]) == (True, 1, 4)
    assert "nothing is installed" in run("status")
    put(sealed.path, plant)
    put(home.granted(plant, b"two").path, plant)
    shown = record("status", "--site", plant.path)
    assert (shown["counter"], shown["development_keys"], len(shown["kept"])) == (2, True, 2)
    assert "development keys" in run("status")
    assert record("rollback") == {"bundle_id": bundle_id, "site": str(plant.path), "changed": True}
    assert record("verify", plant.path)["current"] == bundle_id
    head = run("audit", "head").strip()
    assert record("audit", "verify", "--head", head)["sequence"] == 7
    assert [entry["event"] for entry in record("audit", "list")["entries"]][-1] == "rollback.done"
    assert "rollback.done" in run("audit", "list")
    with pytest.raises(Refused):
        run("rollback", "--to", "industry-9-000000000000")


def test_verify_says_which_part(home: Home) -> None:
    sealed = home.seal()
    blob = blob_of(sealed.path, sealed.manifest, "model")
    blob.write_bytes(flipped(blob.read_bytes(), 3))
    with pytest.raises(IntegrityError, match=r"role model") as error:
        run("verify", sealed.path)
    assert error.value.exit_code == 4
    assert error.value.as_record()["part"] == f"blobs/sha256/{blob.name[:12]}… (role model)"


def test_bundle_list_and_show(home: Home) -> None:
    assert record("bundle", "list") == {"bundles": []}
    old, new = home.seal(b"one"), home.granted(home.site(), b"two")
    (old.path / "bundle.dsse").write_bytes(b"{}")
    listed = record("bundle", "list")["bundles"]
    assert {row["bundle_id"]: "problem" in row for row in listed} == {
        old.manifest.bundle_id: True, new.manifest.bundle_id: False
    }  # fmt: skip
    shown = record("bundle", "show", new.manifest.bundle_id)
    assert (shown["product"], len(shown["grants"])) == ("industry", 1)
    assert "model" in run("bundle", "show", new.path)
    assert new.manifest.bundle_id in run("bundle", "list")


FOREST = """
from toolkit.artifacts import Violation
from toolkit.hookspecs import hookimpl

@hookimpl
def check_install(manifest, host):
    assert host.free_bytes > 0
    if manifest["counter"] > 1:
        yield Violation("forest", "one bundle is enough", str(manifest["counter"]), "1")
"""


def test_install_asks_the_plugins(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = home.site()
    header = replace(HEADER, domain=DomainRef("forest", ">=2"))
    bundles = [home.seal(model, header=header) for model in (b"one", b"two")]
    for sealed in bundles:
        home.grant(sealed.path, plant)
    with pytest.raises(EnvironmentUnfit, match="the domain forest is not installed here"):
        run("install", bundles[0].path)
    info = tmp_path / "packages" / "distil_toolkit_forest-2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: distil-toolkit-forest\nVersion: 2.3\n")
    (info / "entry_points.txt").write_text("[toolkit.domains]\nforest = toolkit_forest_of_the_tests\n")
    (info.parent / "toolkit_forest_of_the_tests.py").write_text(FOREST)
    monkeypatch.syspath_prepend(str(info.parent))
    done = record("install", bundles[0].path)
    assert (done["changed"], done["custody"]) == (True, "development")
    assert not record("install", bundles[0].manifest.bundle_id, "--site", plant.path)["changed"]
    with pytest.raises(Refused, match="one bundle is enough"):
        run("install", bundles[1].path)
    assert record("status")["current"] == bundles[0].manifest.bundle_id


def test_texts_from_outside_are_printed_as_they_are(home: Home) -> None:
    header = replace(HEADER, teacher=LicenceRecord("[/red] [bold]x", "MIT", "", "allowed"))
    assert "[/red] [bold]x (MIT)" in run("bundle", "show", home.seal(header=header).path)


def test_a_name_from_outside_makes_no_line_of_its_own(home: Home, tmp_path: Path) -> None:
    plant = home.site()
    hostile = "b\n    9  2026-01-01T00:00:00Z  install.done  bundle_id=fake\x1b[8m"
    shutil.copytree(home.seal().path, tmp_path / hostile)
    with pytest.raises(IntegrityError):
        run("install", tmp_path / hostile, "--site", plant.path)
    told = run("audit", "list", "--site", plant.path)
    assert len(told.splitlines()) == 2
    assert "\x1b" not in told
    assert r"b\n    9" in told


@pytest.mark.parametrize(
    "place", ["audit/log.jsonl", "audit/head", "current", "keys/site.key.json", "recipient.json", "trust/root.json"]
)
def test_a_pipe_in_a_files_place_is_told_and_not_waited_for(place: str, home: Home) -> None:
    plant = home.site()
    put(home.granted(plant).path, plant)
    (plant.path / place).unlink()
    os.mkfifo(plant.path / place)
    words = (
        ("grant", home.seal().path, "--to", plant.recipient_json) if "recipient" in place else ("verify", plant.path)
    )
    with pytest.raises(ToolkitError):
        run(*words)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("477ce96069268b07",), "neither a key"), (("a b",), "neither a key"),
        (("industry-1-000000000000", "--reason", "a\nb"), "cannot be printed"),
        (("industry-1-000000000000", "--reason", "\udcff"), "cannot be printed"),
        (("industry-1-000000000000", "--reason", "x" * 4097), "too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_revoked_is_told_before_anything_is_signed(
    arguments: tuple[str, ...], problem: str, home: Home
) -> None:
    with pytest.raises(UsageError, match=problem):
        run("keys", "revoke", *arguments)
    with pytest.raises(UsageError, match="is a root key"):
        run("keys", "revoke", home.keys.trust.roots[0])
    assert not (home.path / "keys" / "revoked.json").exists()


def test_a_file_where_the_site_should_be_is_not_a_bug(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(EnvironmentUnfit, match="cannot use the folder"):
        run("site", "init", tmp_path / "file", "--trust", home.path / "keys" / "root.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "nothing-of-this-name"), ("grant", "x", "--to", "no.json"), ("status", "--site", "nowhere"),
        ("rollback", "--site", "nowhere"), ("audit", "verify", "--site", "nowhere"), ("bundle", "show", "x"),
        ("site", "init", "somewhere", "--trust", "no.json"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_bad_usage(
    arguments: tuple[str, ...], home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        run(*arguments)
    assert error.value.exit_code == 2
    assert error.value.hint


def test_rotating_trusting_and_revoking_as_typed(home: Home, tmp_path: Path) -> None:
    plant = home.site()
    made = record("keys", "rotate", "publisher")
    assert (made["version"], made["missing_signatures"]) == (2, 0)
    with pytest.raises(UsageError, match="no role is named") as unknown:
        run("keys", "rotate", "model.sig")
    assert "escrow" in unknown.value.hint
    with pytest.raises(UsageError, match="signs nothing"):
        run("keys", "rotate", "escrow", "--suite", "cob256+xwing+ed25519")
    assert record("keys", "rotate", "escrow")["grants"] == len(list(home.escrow.glob("*.dsse")))
    run("keys", "export", "--to", tmp_path / "usb")
    assert record("site", "trust", plant.path, "--root", tmp_path / "usb" / "root.json")["changed"]
    assert "trusted already" in run("site", "trust", plant.path, "--root", tmp_path / "usb" / "root.json")
    with pytest.raises(UsageError, match="no trust root"):
        run("site", "trust", plant.path, "--root", tmp_path / "none.json")
    sealed = Home(home.path, load_keys(home.path / "keys", None)).granted(plant)
    put(sealed.path, open_site(plant.path))
    revoked = record("keys", "revoke", sealed.manifest.bundle_id, plant.recipient_json, "--reason", "a test")
    assert [one["reason"] for one in revoked["revoked"]] == ["a test", "a test"]
    with pytest.raises(UsageError, match="neither a key"):
        run("keys", "revoke", "../x")
    run("keys", "export", "--to", tmp_path / "usb")
    assert record("site", "revoke", plant.path, "--list", tmp_path / "usb" / "revoked.json")["version"] == 1
    shown = record("status")
    assert (shown["root_version"], shown["revoked_version"], shown["grant"]["state"]) == (2, 1, "revoked")
    assert "was revoked: a test" in run("status")
    listed = record("keys", "list")
    assert (len(listed["roles"]["publisher"]), len(listed["revoked"])) == (2, 2)
    assert "root.json" in run("keys", "list")
    before = plant.recipient_key().fingerprint
    assert record("site", "rotate", plant.path)["fingerprint"] == plant.recipient_key().fingerprint != before
    with pytest.raises(UsageError, match="no new root"):
        run("keys", "sign", tmp_path / "nothing.json")
    with pytest.raises(IntegrityError):
        run("site", "revoke", plant.path, "--list", tmp_path / "usb" / "root.json")


def test_dual_production_keys_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "passphrase").write_text("a long enough passphrase")
    monkeypatch.setenv("TOOLKIT_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    for words in (("--suite", "rsa"), ("--threshold", 2), ("--root-keys", 0), ("--root-keys", 99)):
        with pytest.raises(UsageError):
            run("keys", "init", *words)
    made = record("keys", "init", "--suite", DUAL_SUITE, "--root-keys", 2, "--threshold", 2)
    assert (made["suites"], made["threshold"], len(made["roles"]["root"])) == ([DUAL_SUITE], 2, 2)
    assert len(made["roles"]["publisher"][0]["key"]) == 64
