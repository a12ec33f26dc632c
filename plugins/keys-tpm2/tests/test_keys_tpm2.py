"""Keys behind a TPM 2: swtpm, the whole of one in software, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

tss = pytest.importorskip("tpm2_pytss", reason="tpm2-pytss is not installed")

from seal_parts import HEADER, LICENCE, put

from toolkit.artifacts import BundleFile
from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.canonical import encode
from toolkit.seal.custody import Access
from toolkit.seal.grant import grant
from toolkit.seal.keyfile import create_signing_key, load_signing_key
from toolkit.seal.keys import custody_of, init_keys, load_keys
from toolkit.seal.recipient import load_recipient
from toolkit.site.current import open_current
from toolkit.site.layout import init_site, open_site
from toolkit.site.trust import rotate_recipient
from toolkit.site.verify import verify_site
from toolkit.testing.key_providers import check_key_provider
from toolkit_keys_tpm2 import register_key_providers
from toolkit_keys_tpm2.provider import TpmKeys

PASSPHRASE = "correct horse"
pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed here")


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A TPM whose memory is `folder`, and how to reach it. Its control port is the one above."""
    folder.mkdir(exist_ok=True)
    for _ in range(20):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        break
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "not-need-init,startup-clear",
             "--server", f"type=tcp,port={port},bindaddr=127.0.0.1,disconnect",
             "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1"]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as found:
            if found.connect_ex(("127.0.0.1", port + 1)) == 0:
                break
        time.sleep(0.05)
    return process, f"swtpm:host=127.0.0.1,port={port}"


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=15)


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh TPM."""
    process, tcti = start(tmp_path / "tpm")
    monkeypatch.setenv("TOOLKIT_TPM2_TCTI", tcti)
    monkeypatch.setenv("TSS2_LOG", "all+NONE")
    monkeypatch.delenv("TOOLKIT_TPM2_PCRS", raising=False)
    yield tcti
    stop(process)


@pytest.fixture
def by(tpm: str) -> Access:
    return Access(PASSPHRASE, providers, "tpm2")


def providers() -> Mapping[str, TpmKeys]:
    return {one.name: one for one in register_key_providers()}


def test_the_conformance_suite(tpm: str, tmp_path: Path) -> None:
    check_key_provider(TpmKeys(), tmp_path / "keys", passphrase=PASSPHRASE, wrong="wrong horse")


def test_the_conformance_suite_without_a_passphrase(tpm: str, tmp_path: Path) -> None:
    check_key_provider(TpmKeys(), tmp_path / "keys", passphrase=None, wrong=None)


@pytest.mark.parametrize("passphrase", [PASSPHRASE, None])
def test_a_site_whose_keys_are_behind_the_tpm(passphrase: str | None, tpm: str, tmp_path: Path) -> None:
    by = Access(passphrase, providers, "tpm2")
    keys = init_keys(tmp_path / "keys", Access(PASSPHRASE, providers, "tpm2"))
    assert custody_of(tmp_path / "keys") == "tpm2"
    assert not keys.development
    site = init_site(tmp_path / "site", keys.trust, passphrase=by)
    assert site.custody == "tpm2"
    keys = load_keys(tmp_path / "keys", Access(PASSPHRASE, providers))
    sealed = seal_bundle(
        tmp_path / "bundles", header=HEADER, files=[BundleFile("model", b"weights"), LICENCE], keys=keys,
        escrow=tmp_path / "escrow",
    )  # fmt: skip
    grant(sealed.path, load_recipient(site.recipient_json), keys, tmp_path / "escrow")
    again = Access(passphrase, providers)
    put(sealed.path, open_site(site.path, again))
    with open_current(site.path, again) as opened:
        assert opened.read("model") == b"weights"
    rotate_recipient(open_site(site.path, again))
    assert verify_site(site.path).site.custody == "tpm2"
    with pytest.raises(UsageError, match="nothing here offers that"):
        load_keys(tmp_path / "keys", PASSPHRASE)


def test_a_key_file_is_nothing_on_another_machine(by: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_signing_key(tmp_path / "k", "site", by)
    other, tcti = start(tmp_path / "other")
    try:
        monkeypatch.setenv("TOOLKIT_TPM2_TCTI", tcti)
        with pytest.raises(IntegrityError, match="another machine's"):
            load_signing_key(tmp_path / "k", "site", by)
    finally:
        stop(other)


def test_a_key_file_opens_after_the_tpm_was_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSS2_LOG", "all+NONE")
    made = None
    for _ in range(2):
        process, tcti = start(tmp_path / "tpm")
        monkeypatch.setenv("TOOLKIT_TPM2_TCTI", tcti)
        by = Access(PASSPHRASE, providers, "tpm2")
        made = made or create_signing_key(tmp_path / "k", "site", by)
        assert load_signing_key(tmp_path / "k", "site", by) == made
        stop(process)


def test_a_key_bound_to_a_state_opens_in_that_state_alone(
    by: Access, tpm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_TPM2_PCRS", "sha256:7,16")
    made = create_signing_key(tmp_path / "bound", "site", by)
    monkeypatch.delenv("TOOLKIT_TPM2_PCRS")
    free = create_signing_key(tmp_path / "free", "site", by)
    assert json.loads((tmp_path / "bound").read_bytes())["pcrs"] == "sha256:7,16"
    assert load_signing_key(tmp_path / "bound", "site", by) == made
    with tss.ESAPI(tpm) as esapi:
        esapi.pcr_event(tss.ESYS_TR.PCR16, b"another kernel")
    with pytest.raises(IntegrityError, match="in this state of the machine"):
        load_signing_key(tmp_path / "bound", "site", by)
    assert load_signing_key(tmp_path / "free", "site", by) == free
    # A file that says it is bound to nothing, or to another register, is one that was altered.
    record = json.loads((tmp_path / "bound").read_bytes())
    for pcrs in ("", "sha256:7", "sha1:7,16", "sha256:7,99", "../x"):
        (tmp_path / "bound").write_bytes(encode(record | {"pcrs": pcrs}))
        with pytest.raises(IntegrityError):
            load_signing_key(tmp_path / "bound", "site", by)


@pytest.mark.parametrize("pcrs", ["7", "sha256:", "sha256:24", "sha256:7,7", "sha256:7,0", "md5:1", "sha256:1,"])
def test_registers_that_are_none(pcrs: str, by: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_TPM2_PCRS", pcrs)
    with pytest.raises(UsageError, match="names no registers"):
        create_signing_key(tmp_path / "k", "site", by)
    assert not (tmp_path / "k").exists()


def test_a_wrong_passphrase_counts_until_the_tpm_takes_none(by: Access, tmp_path: Path) -> None:
    create_signing_key(tmp_path / "k", "site", by)
    with pytest.raises(UsageError, match="locked by a passphrase"):
        load_signing_key(tmp_path / "k", "site", Access(None, providers))
    said = []
    while len(said) < 40 and not any("too many wrong ones" in one for one in said):
        with pytest.raises((IntegrityError, EnvironmentUnfit)) as refused:
            load_signing_key(tmp_path / "k", "site", Access("wrong horse", providers))
        said.append(str(refused.value))
    assert "the passphrase does not open" in said[0]
    assert "too many wrong ones" in said[-1], "the TPM lets anybody guess for ever"
    assert not any("wrong horse" in one for one in said)


def test_an_altered_file_and_a_missing_tpm(by: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_signing_key(tmp_path / "k", "site", by)
    record = json.loads((tmp_path / "k").read_bytes())
    for change in ({"tpm_public": "AAAA"}, {"tpm_private": ""}, {"nonce": "AAAA"}, {"locked": 2}, {"locked": 0},
                   {"sealed": "AAAA"}, {"tpm_public": record["tpm_private"]}, {"role": "issuer"}):  # fmt: skip
        (tmp_path / "k").write_bytes(encode(record | change))
        with pytest.raises(IntegrityError):
            load_signing_key(tmp_path / "k", change.get("role", "site"), by)
    (tmp_path / "k").write_bytes(encode(record))
    monkeypatch.setenv("TOOLKIT_TPM2_TCTI", "swtpm:host=127.0.0.1,port=1")
    with pytest.raises(EnvironmentUnfit, match="cannot be used"):
        load_signing_key(tmp_path / "k", "site", by)
    monkeypatch.delenv("TOOLKIT_TPM2_TCTI")
    if not os.path.exists("/dev/tpmrm0"):
        with pytest.raises(EnvironmentUnfit, match="/dev/tpmrm0"):
            load_signing_key(tmp_path / "k", "site", by)
