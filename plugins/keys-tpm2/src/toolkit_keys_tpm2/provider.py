"""What a key file has of its TPM: a 32-byte key sealed by it, and the secret under that key (AES-256-GCM).

The TPM is named by TOOLKIT_TPM2_TCTI and never by a key file: a file must not choose what is talked to. By which
registers its key is bound, a file does say; the TPM holds it to that.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.canonical import Fields, encode, to_base64

PART = "key file"
PCRS = r"(sha(1|256|384|512):(1?[0-9]|2[0-3])(,(1?[0-9]|2[0-3])){0,23})?"
MAX_BLOB = 1024
DEVICE = "device:/dev/tpmrm0"
"""The kernel's resource manager, which shares the TPM among processes."""


@dataclass(frozen=True)
class TpmKeys:
    """Secrets in key files that one TPM opens, with a passphrase beside it where one was given when they were made."""

    name: str = "tpm2"

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        """By a fresh key, sealed in the TPM to the passphrase and to the registers of TOOLKIT_TPM2_PCRS."""
        from toolkit_keys_tpm2.tpm import opened

        pcrs = _pcrs(os.environ.get("TOOLKIT_TPM2_PCRS", ""))
        key, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
        with opened(_tcti()) as tpm:
            public, private = tpm.seal(key, passphrase or "", pcrs)
        place = {
            "pcrs": pcrs, "locked": int(bool(passphrase)), "tpm_public": to_base64(public),
            "tpm_private": to_base64(private), "nonce": to_base64(nonce),
        }  # fmt: skip
        return place | {"sealed": to_base64(AESGCM(key).encrypt(nonce, secret, encode({**header, **place})))}

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        from toolkit_keys_tpm2.tpm import opened

        fields = Fields(record, PART)
        pcrs, locked = fields.text("pcrs", PCRS), fields.integer("locked", high=1)
        public, private, nonce, sealed = (
            fields.base64(name) for name in ("tpm_public", "tpm_private", "nonce", "sealed")
        )
        if len(nonce) != 12 or not 0 < len(public) <= MAX_BLOB or not 0 < len(private) <= MAX_BLOB:
            raise IntegrityError("the key file is damaged", part=PART, hint="Restore it from its backup.")
        if locked and not passphrase:
            raise UsageError("the key is locked by a passphrase", hint="Name its file in TOOLKIT_PASSPHRASE_FILE.")
        with opened(_tcti()) as tpm:
            key = tpm.unseal(public, private, passphrase or "" if locked else "", pcrs)
        try:
            return AESGCM(key).decrypt(
                nonce, sealed, encode({name: value for name, value in record.items() if name != "sealed"})
            )
        except (InvalidTag, ValueError) as error:
            raise IntegrityError("the key file was altered", part=PART, hint="Restore it from its backup.") from error


def _tcti() -> str:
    return os.environ.get("TOOLKIT_TPM2_TCTI", "") or DEVICE


def _pcrs(text: str) -> str:
    """Registers as the TPM's tools write them, e.g. `sha256:0,2,7`; none where there is nothing."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", text.partition(":")[2])]
    if re.fullmatch(PCRS, text) is None or numbers != sorted(set(numbers)):
        raise UsageError(
            f"TOOLKIT_TPM2_PCRS names no registers: {ascii(text)[1:-1][:60]}",
            hint="Write a bank and numbers from 0 to 23 in order, e.g. sha256:0,2,7.",
        )
    return text
