"""Opening in RAM. Cases 27-31 of the bundle design."""

from __future__ import annotations

import base64
import ctypes
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from seal_parts import Home, blob_of, contains, flipped, make_home, overwrite, put, resign

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.grantfile import make_grant, read_grant, unwrap_content_keys
from toolkit.seal.memory import SecretBuffer
from toolkit.seal.open import open_bundle
from toolkit.seal.recipient import load_recipient
from toolkit.seal.verify import verify_bundle
from toolkit.site.current import open_current

CANARY = b"CANARY-in-the-weights-7f3a91"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def test_every_role_can_be_read_again(home: Home) -> None:
    site = home.site()
    put(home.granted(site, b"m" * 50_000, plan=b"{}", empty=b"").path, site)
    with open_current(site.path) as opened:
        papers = ("LICENSES/teacher.txt", "sbom.cdx.json", "provenance.dsse")
        assert opened.roles == ("model", "plan", "empty", *papers)
        assert (opened.read("model"), opened.read("plan"), opened.read("empty")) == (b"m" * 50_000, b"{}", b"")
        assert opened.read("LICENSES/teacher.txt").startswith(b"Apache")
        with pytest.raises(UsageError, match="has no prompts"):
            opened.read("prompts")


def test_case_30_a_view_is_read_only_and_shows_zeros_after_close(home: Home) -> None:
    site = home.site()
    opened = open_bundle(home.granted(site, b"weights").path, home.keys.trust, site.recipient_key())
    view = opened.view("model")
    assert view.readonly
    assert bytes(view) == b"weights"
    opened.close()
    assert bytes(view) == bytes(7)
    with pytest.raises(UsageError, match="closed"):
        opened.view("model")


def test_forgetting_a_role_wipes_it_and_leaves_the_others(home: Home) -> None:
    site = home.site()
    with open_bundle(home.granted(site, b"weights", plan=b"p").path, home.keys.trust, site.recipient_key()) as opened:
        view, plan = opened.view("model"), opened.view("plan")
        opened.forget("model")
        assert (bytes(view), bytes(plan)) == (bytes(7), b"p")
        assert opened.read("model") == b"weights"


def test_case_27_a_file_changed_after_install_is_not_handed_on(home: Home) -> None:
    site = home.site()
    done = put(home.granted(site, b"weights", plan=b"plan").path, site)
    blob = blob_of(done.path, done.manifest, "model")
    with open_current(site.path) as opened:
        assert opened.read("plan") == b"plan"
        overwrite(blob, flipped(blob.read_bytes(), 500))  # while it is being loaded
        with pytest.raises(IntegrityError, match="role model"):
            opened.read("model")
    overwrite(done.path / "bundle.dsse", b"{}")
    with pytest.raises(IntegrityError):
        open_current(site.path)


@pytest.mark.parametrize(
    "change", [{"mac": "0" * 64}, {"size": 6}, {"size": 8}, {"path": "other"}, {"role": "other", "path": "other"}]
)
def test_a_manifest_that_does_not_fit_its_blobs_is_not_handed_on(change: dict[str, object], home: Home) -> None:
    # A publisher who signs nonsense, and an issuer who grants it: escrow and grant are made for the altered manifest.
    site = home.site()
    sealed = home.seal(b"weights")
    escrow = read_grant(
        (home.escrow / f"{sealed.manifest.bundle_id}.dsse").read_bytes(), home.keys.trust, part="escrow"
    )  # fmt: skip
    resign(sealed.path, home.keys, lambda body: body["variants"][0]["files"][0].update(change))
    grant_id, data = make_grant(
        bundle_id=sealed.manifest.bundle_id, manifest_sha256=verify_bundle(sealed.path, home.keys.trust).digest,
        serial=9, recipient=load_recipient(site.recipient_json), issuer=home.keys.issuer,
        content_keys=unwrap_content_keys(escrow, home.keys.escrow),
    )  # fmt: skip
    (sealed.path / "grants").mkdir()
    (sealed.path / "grants" / f"{grant_id}.dsse").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"blobs/sha256/"):
        put(sealed.path, site)
    assert not list(site.versions.iterdir())
    with (
        open_bundle(sealed.path, home.keys.trust, site.recipient_key()) as opened,
        pytest.raises(IntegrityError),
    ):
        opened.read(str(change.get("role", "model")))


def test_case_29_no_plaintext_on_any_disk(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    site = home.site()
    sealed = home.granted(site, CANARY * 4000, plan=CANARY, golden=CANARY)
    put(sealed.path, site)
    with open_current(site.path) as opened:
        assert CANARY in opened.read("model")
        assert not list(contains([tmp_path], CANARY))
    assert not list(contains([tmp_path], CANARY))


def test_case_31_no_key_in_the_bundle_the_site_or_a_repr(home: Home, tmp_path: Path) -> None:
    site = home.site()
    sealed = home.granted(site, CANARY)
    escrow = read_grant(
        (home.escrow / f"{sealed.manifest.bundle_id}.dsse").read_bytes(), home.keys.trust, part="escrow"
    )  # fmt: skip
    content_key = unwrap_content_keys(escrow, home.keys.escrow)["cpu"]
    put(sealed.path, site)
    for form in (content_key, content_key.hex().encode(), base64.b64encode(content_key)):
        assert not list(contains([tmp_path], form))
    with open_current(site.path) as opened:
        opened.read("model")
        for text in (repr(opened), repr(site), repr(sealed), repr(escrow.keys)):
            assert CANARY.decode() not in text
            assert content_key.hex() not in text
            assert repr(content_key)[2:-1] not in text


def test_case_30_a_hardened_process_leaves_no_core_dump() -> None:
    code = (
        "import ctypes, resource; from toolkit.seal.memory import harden_process; print(harden_process());"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    if sys.platform.startswith("linux"):
        assert done.stdout.splitlines() == ["Hardening(core_dumps_off=True, not_dumpable=True)", "(0, 0) 0"]
    else:
        assert "(0, 0)" in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc/self/smaps")
def test_case_30_a_secret_buffer_is_kept_out_of_dumps_and_locked_where_allowed() -> None:
    buffer = SecretBuffer(3 * resource.getpagesize())
    view = buffer.view
    view[:] = b"x" * buffer.size
    address = ctypes.addressof(ctypes.c_char.from_buffer(view))
    smaps = Path("/proc/self/smaps").read_text()
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps):
        first, last = (int(part, 16) for part in block.split(" ", 1)[0].split("-"))
        if first <= address < last:
            flags = block.rsplit("VmFlags:", 1)[1].split()
            assert "dd" in flags  # do not include in a core dump
            assert ("lo" in flags) == buffer.locked
    buffer.wipe()
    assert bytes(view) == bytes(len(view))
    assert "x" not in repr(buffer)
