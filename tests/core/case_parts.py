"""What the tests of the numbered cases share. A refusal is judged as a user and a burglar would see it: by the exit
code of the command line, by what is installed then, by the trail, and by whether the weights can be read anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_parts import Said
from seal_parts import Home, body_of, canonical, forge, make_home, resign, snapshot

from toolkit.cli.main import main
from toolkit.errors import EnvironmentUnfit, IntegrityError, Refused
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.grantfile import make_grant, read_grant, unwrap_content_keys
from toolkit.seal.recipient import load_recipient
from toolkit.seal.tree import open_tree
from toolkit.seal.verify import read_envelope
from toolkit.site.layout import Site

CANARY = b"CANARY-in-the-weights-7f3a91"
MODEL = CANARY * 2000  # three whole chunks and a part
CODES = {error.exit_code: error.code for error in (Refused, IntegrityError, EnvironmentUnfit)}
LARGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Refusal:
    """How the command line said no."""

    exit_code: int
    part: str
    message: str


def case_home(path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that the command line uses, with the folder for temporary files below it too."""
    (path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(path / "temporary"))
    monkeypatch.setenv("TOOLKIT_HOME", str(path / "home"))
    monkeypatch.delenv("TOOLKIT_PASSPHRASE_FILE", raising=False)
    return make_home(path / "home")


def case_bundle(home: Home) -> SealedBundle:
    """A bundle for the home's site, with the canary in every secret file of some length."""
    return home.granted(home.site(), MODEL, plan=CANARY, empty=b"")


def run(*words: object) -> Said:
    """The command line, in this process; whatever it raises but an exit is a bug and goes through."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()  # a verb may write bytes
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = Said(int(left.value.code or 0), out.buffer.getvalue().decode(), err.getvalue())
    assert "Traceback" not in said.out + said.err
    assert CANARY.decode() not in said.out + said.err
    return said


def refusal(said: Said, code: int) -> Refusal:
    assert said.code == code, said
    error = said.record["error"]
    assert error["code"] == CODES[code], error
    return Refusal(said.code, error.get("part", ""), error["message"])


def not_installed(bundle: Path, home: Home, code: int = 4, site: Site | None = None) -> Refusal:
    """`toolkit install` refuses the bundle, and all that it leaves is an entry in the trail."""
    site = site or home.site()
    before = snapshot(site.versions), site.current.read_bytes(), len(list(site.audit.entries()))
    found = refusal(run("install", bundle, "--site", site.path, "--json"), code)
    entries = list(site.audit.entries())
    assert (snapshot(site.versions), site.current.read_bytes(), len(entries) - 1) == before
    assert not site.staging.exists() or not list(site.staging.iterdir())
    assert (entries[-1].event, entries[-1].details["code"]) == ("install.refused", CODES[code])
    assert entries[-1].details["part"] == found.part
    assert not plaintext(home.path.parent)
    return found


def refused(bundle: Path, home: Home) -> Refusal:
    """`toolkit verify` and `toolkit install` refuse the bundle alike, and name the same part."""
    by_verify = refusal(run("verify", bundle, "--json"), 4)
    by_install = not_installed(bundle, home)
    assert by_install.part == by_verify.part
    return by_verify


def installed(bundle: Path, home: Home) -> None:
    """The way without a fault, so that a refusal means something."""
    assert run("verify", bundle, "--json").code == 0
    said = run("install", bundle, "--json")
    assert said.code == 0, said
    assert not plaintext(home.path.parent)


def plaintext(*folders: Path) -> list[Path]:
    """Files that hold the canary. Sparse giants that a test made are left out."""
    found = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in (Path(place, name) for name in names):
                facts = path.lstat()
                readable = stat.S_ISREG(facts.st_mode) and facts.st_size <= LARGEST
                if readable and CANARY in path.read_bytes():
                    found.append(path)
    return found


def content_keys(home: Home, bundle_id: str) -> dict[str, bytes]:
    """What the issuer can open."""
    escrow = read_grant((home.escrow / f"{bundle_id}.dsse").read_bytes(), home.keys.trust, part="escrow")
    return unwrap_content_keys(escrow, home.keys.escrow)


def regrant(home: Home, bundle: Path, keys: dict[str, bytes], site: Site | None = None, serial: int = 1) -> None:
    """Grants anew by an issuer who asks no questions: for the manifest as it is now, with any keys."""
    shutil.rmtree(bundle / "grants", ignore_errors=True)
    with open_tree(bundle) as root:
        manifest, _ = read_envelope(root, home.keys.trust)
    grant_id, data = make_grant(
        bundle_id=manifest.bundle_id, manifest_sha256=manifest.digest, serial=serial,
        recipient=load_recipient((site or home.site()).recipient_json), issuer=home.keys.issuer, content_keys=keys,
    )  # fmt: skip
    (bundle / "grants").mkdir()
    (bundle / "grants" / f"{grant_id}.dsse").write_bytes(data)


def republish(
    home: Home, sealed: SealedBundle, change: Callable[[dict[str, Any]], object], keys: dict[str, bytes] | None = None
) -> Path:
    """Publisher and issuer sign whatever the manifest says after `change`: what is wrong must be found by itself."""
    resign(sealed.path, home.keys, change)
    regrant(home, sealed.path, keys or content_keys(home, sealed.manifest.bundle_id))
    return sealed.path


def relist(home: Home, sealed: SealedBundle, change: Callable[[dict[str, Any]], object] = lambda body: None) -> Path:
    """Publisher and issuer sign a manifest that lists the papers as they lie there, whatever they are."""
    keys = content_keys(home, sealed.manifest.bundle_id)
    path = sealed.path / "bundle.dsse"
    body = body_of(path)
    for file in body["files"]:
        data = (sealed.path / file["path"]).read_bytes()
        file.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    change(body)
    path.write_bytes(forge(canonical(body), "bundle", home.keys.publisher))
    regrant(home, sealed.path, keys)
    return sealed.path


def put_blob(sealed: SealedBundle, role: str, data: bytes) -> Callable[[dict[str, Any]], None]:
    """Lay `data` down as the blob of `role`; what is returned makes a manifest list it."""
    digest = hashlib.sha256(data).hexdigest()
    old = next(file.cipher_sha256 for file in sealed.manifest.variants[0].files if file.role == role)
    (sealed.path / "blobs" / "sha256" / old).unlink()
    (sealed.path / "blobs" / "sha256" / digest).write_bytes(data)

    def listed(body: dict[str, Any]) -> None:
        for file in body["variants"][0]["files"]:
            if file["role"] == role:
                file.update(cipher_sha256=digest, cipher_size=len(data))

    return listed


def signed_again(path: Path, kind: str, home: Home, body: bytes | None = None, **changes: Any) -> None:
    """An envelope over any bytes, by the publisher or, for a grant, the issuer."""
    signer = home.keys.publisher if kind == "bundle" else home.keys.issuer
    data = body if body is not None else json.dumps(body_of(path), sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(forge(data, kind, signer, **changes))
