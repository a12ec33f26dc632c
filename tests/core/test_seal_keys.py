"""Key files, the home's keys, recipients. Cases 31 and 37 of the bundle design."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from seal_parts import canonical, flipped, forge, make_home

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.keyfile import create_recipient_key, create_signing_key, load_recipient_key, load_signing_key
from toolkit.seal.keys import ensure_development_keys, init_keys, key_path, load_keys
from toolkit.seal.recipient import Recipient, load_recipient, unwrap
from toolkit.seal.trust import load_trust, parse_trust, root_payload

PASSPHRASE = "a long enough passphrase"


def test_development_keys_are_made_once_and_say_so(tmp_path: Path) -> None:
    first, second = ensure_development_keys(tmp_path), ensure_development_keys(tmp_path)
    assert first == second
    assert first.development
    assert first.trust.publishers == (first.publisher.key_id,)
    assert first.trust.issuers == (first.issuer.key_id,)
    assert len({first.publisher.key_id, first.issuer.key_id, *first.trust.roots, *first.trust.revokers}) == 4


def test_key_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    ensure_development_keys(tmp_path / "keys")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").glob("*.key.json")} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "k", "site", None)
    (tmp_path / "k").chmod(0o640)
    with pytest.raises(EnvironmentUnfit, match="others may read"):
        load_signing_key(tmp_path / "k", "site", None)


def test_two_processes_at_once_make_one_set_of_keys(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from toolkit.seal.keys import ensure_development_keys as e;"
        "k = e(Path(sys.argv[1])); print(k.trust.digest, k.publisher.key_id, k.issuer.key_id, k.escrow.fingerprint)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "keys")], stdout=subprocess.PIPE) for _ in range(3)
    ]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1


def test_a_creation_cut_short_is_taken_up_and_overwrites_no_key(tmp_path: Path) -> None:
    root = create_signing_key(key_path(tmp_path, "root"), "root", None)
    publisher = create_signing_key(key_path(tmp_path, "publisher"), "publisher", None)
    ring = ensure_development_keys(tmp_path)
    assert (ring.trust.roots, ring.publisher.key_id) == ((root.key_id,), publisher.key_id)
    with pytest.raises(UsageError, match="never overwritten"):
        create_signing_key(key_path(tmp_path, "root"), "root", None)


def test_the_root_key_may_leave_the_machine(tmp_path: Path) -> None:
    ring = ensure_development_keys(tmp_path)
    key_path(tmp_path, "root").unlink()
    assert load_keys(tmp_path, None) == ring


def test_production_keys_open_with_their_passphrase_alone(tmp_path: Path) -> None:
    ring = init_keys(tmp_path, PASSPHRASE)
    assert not ring.development
    assert ensure_development_keys(tmp_path, PASSPHRASE) == ring
    with pytest.raises(IntegrityError, match="passphrase does not open"):
        load_keys(tmp_path, PASSPHRASE + " ")
    with pytest.raises(UsageError, match="locked by a passphrase"):
        load_keys(tmp_path, None)
    with pytest.raises(UsageError, match=r"keys in .* already"):
        init_keys(tmp_path, PASSPHRASE)


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty"):
        init_keys(tmp_path, "")
    assert not list(tmp_path.glob("*.key.json"))


def test_a_locked_key_is_argon2id_and_aes_256_gcm_and_nothing_else(tmp_path: Path) -> None:
    key = create_signing_key(tmp_path / "k", "site", PASSPHRASE)
    record = json.loads((tmp_path / "k").read_bytes())
    sealed = base64.b64decode(record.pop("sealed"))
    stretch = Argon2id(
        salt=base64.b64decode(record["salt"]), length=32, iterations=3, lanes=4, memory_cost=65536
    ).derive(PASSPHRASE.encode())
    secret = AESGCM(stretch).decrypt(base64.b64decode(record["nonce"]), sealed, canonical(record))
    assert secret == key.private.private_bytes_raw()


def test_a_locked_key_with_weakened_costs_is_refused(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "k", "site", PASSPHRASE)
    record = json.loads((tmp_path / "k").read_bytes())
    (tmp_path / "k").write_bytes(canonical(record | {"iterations": 1}))
    with pytest.raises(IntegrityError):
        load_signing_key(tmp_path / "k", "site", PASSPHRASE)
    (tmp_path / "k").write_bytes(canonical(record | {"memory_kib": 2**40}))
    with pytest.raises(IntegrityError):
        load_signing_key(tmp_path / "k", "site", PASSPHRASE)


def test_a_key_of_one_role_is_no_key_of_another(tmp_path: Path) -> None:
    create_signing_key(tmp_path / "k", "issuer", None)
    with pytest.raises(IntegrityError, match="not a publisher key"):
        load_signing_key(tmp_path / "k", "publisher", None)


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    ring = ensure_development_keys(tmp_path)
    for path in tmp_path.glob("*.key.json"):
        secret = json.loads(path.read_bytes())["secret"]
        for text in (repr(ring), repr(ring.publisher), repr(ring.escrow)):
            assert secret not in text
            assert base64.b64decode(secret).hex() not in text
            assert repr(base64.b64decode(secret))[2:-1] not in text


def test_a_root_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    root = create_signing_key(tmp_path / "a", "root", None)
    other = create_signing_key(tmp_path / "b", "root", None)
    body = root_payload(
        version=1, roots=[root.key_id], threshold=1, publishers=[], issuers=[], revokers=[], development=True
    )
    parse_trust(forge(canonical(body), "root", root))
    with pytest.raises(IntegrityError, match="not signed by 1 of the root keys"):
        parse_trust(forge(canonical(body), "root", other))


def test_a_recipient_receives_and_nobody_else(tmp_path: Path) -> None:
    mine = create_recipient_key(tmp_path / "a", "recipient", None)
    other = create_recipient_key(tmp_path / "b", "recipient", None)
    wrapped = Recipient.of(mine, "me").wrap(b"k" * 32, b"facts")
    assert unwrap(wrapped, mine, b"facts", part="it") == b"k" * 32
    assert unwrap(wrapped, load_recipient_key(tmp_path / "a", "recipient", None), b"facts", part="it") == b"k" * 32
    for attempt in ((wrapped, other, b"facts"), (wrapped, mine, b"fact"), (wrapped[:-1], mine, b"facts")):
        with pytest.raises(IntegrityError):
            unwrap(*attempt, part="it")


def test_any_flipped_bit_of_a_wrap_is_refused(tmp_path: Path) -> None:
    key = create_recipient_key(tmp_path / "a", "recipient", None)
    wrapped = Recipient.of(key, "me").wrap(b"k" * 32, b"")
    for position in range(0, len(wrapped), 3):
        with pytest.raises(IntegrityError):
            unwrap(
                wrapped[:position] + bytes([wrapped[position] ^ 4]) + wrapped[position + 1 :], key, b"", part="it"
            )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "curve"),
    [
        ("zero", bytes(32)),
        ("one", b"\1" + bytes(31)),
        ("order eight", bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")),
        ("p minus one", bytes.fromhex("ec" + "ff" * 30 + "7f")),
    ],
)
def test_case_37_a_low_order_point_is_no_recipient(what: str, curve: bytes, tmp_path: Path) -> None:
    public = create_recipient_key(tmp_path / "k", "recipient", None).public[:1184] + curve
    write_recipient(tmp_path / "recipient.json", public)
    with pytest.raises(IntegrityError, match="no usable key"):
        load_recipient(tmp_path / "recipient.json")


@pytest.mark.parametrize("start", [b"\xff\xff\xff", b"\x01\x0d\xd0"])
def test_case_37_an_ml_kem_key_with_a_coefficient_out_of_range_is_no_recipient(start: bytes, tmp_path: Path) -> None:
    # FIPS 203, 7.2: coefficients are 12 bits each and must be below 3329 = 0xd01.
    public = start + create_recipient_key(tmp_path / "k", "recipient", None).public[3:]
    write_recipient(tmp_path / "recipient.json", public)
    with pytest.raises(IntegrityError, match="no usable key"):
        load_recipient(tmp_path / "recipient.json")


@pytest.mark.parametrize("length", [0, 32, 1184, 1215, 1217])
def test_a_public_key_of_another_length_is_no_recipient(length: int, tmp_path: Path) -> None:
    write_recipient(tmp_path / "recipient.json", bytes(length))
    with pytest.raises(IntegrityError):
        load_recipient(tmp_path / "recipient.json")


def test_a_flipped_bit_in_recipient_json_is_refused(tmp_path: Path) -> None:
    site = make_home(tmp_path).site()
    data = site.recipient_json.read_bytes()
    body = json.loads(data)
    body["public"] = base64.b64encode(flipped(base64.b64decode(body["public"]), 0)).decode()
    site.recipient_json.write_bytes(canonical(body))
    with pytest.raises(IntegrityError, match="damaged"):
        load_recipient(site.recipient_json)


def test_a_missing_root_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trust root"):
        load_trust(tmp_path / "root.json")


def write_recipient(path: Path, public: bytes) -> None:
    record = {
        "format": "distil-recipient/1", "critical": [], "name": "x",
        "fingerprint": hashlib.sha256(public).hexdigest(), "public": base64.b64encode(public).decode(),
    }  # fmt: skip
    path.write_bytes(canonical(record))
