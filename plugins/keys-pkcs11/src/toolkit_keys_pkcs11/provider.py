"""What a key file has of its token, and what the token does with it: sign (EdDSA), wrap and unwrap (AES-256-GCM).

The token's module is named by TOOLKIT_PKCS11_MODULE, never by a key file: a file must not choose what is loaded.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.seal.canonical import Fields, encode, to_base64
from toolkit_keys_pkcs11.token import opened

PART = "key file"
ID = r"[0-9a-f]{32}"
LABEL = r"[ -~]{1,32}"


@dataclass(frozen=True)
class TokenKeys:
    """Keys in the token that TOOLKIT_PKCS11_TOKEN names where they are made, and their file where they are used."""

    name: str = "pkcs11"

    def make_signing_key(self, label: str, passphrase: str | None) -> tuple[bytes, Mapping[str, Any]]:
        """An Ed25519 pair, sensitive and not extractable."""
        token, key = _token_to_make_in(), secrets.token_hex(16)
        with opened(token, passphrase) as inside:
            return inside.make_ed25519(key, label), {"sign_token": token, "sign_key": key}

    def signer(self, record: Mapping[str, Any], passphrase: str | None) -> Callable[[bytes], bytes]:
        """A session for each signature: a token that was pulled out is missed at once."""
        fields = Fields(record, PART)
        token, key = fields.text("sign_token", LABEL), fields.text("sign_key", ID)

        def sign(message: bytes) -> bytes:
            with opened(token, passphrase) as inside:
                return inside.sign(key, message)

        with opened(token, passphrase) as inside:
            inside.find_signing(key)
        return sign

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        """By an AES-256 key of its own, made in the token."""
        token, key, nonce = _token_to_make_in(), secrets.token_hex(16), os.urandom(12)
        place = {"wrap_token": token, "wrap_key": key, "nonce": to_base64(nonce)}
        with opened(token, passphrase) as inside:
            inside.make_aes(key, "toolkit wrap")
            sealed = inside.encrypt(key, nonce, secret, encode({**header, **place}))
        return place | {"sealed": to_base64(sealed)}

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        fields = Fields(record, PART)
        token, key = fields.text("wrap_token", LABEL), fields.text("wrap_key", ID)
        nonce, sealed = fields.base64("nonce"), fields.base64("sealed")
        if len(nonce) != 12 or len(sealed) < 16:
            raise IntegrityError("the key file is damaged", part=PART, hint="Restore it from its backup.")
        bound = encode({name: value for name, value in record.items() if name != "sealed"})
        with opened(token, passphrase) as inside:
            return inside.decrypt(key, nonce, sealed, bound)


def _token_to_make_in() -> str:
    name = os.environ.get("TOOLKIT_PKCS11_TOKEN", "")
    if not name:
        raise EnvironmentUnfit(
            "no token is named to make keys in", hint="Give its label in TOOLKIT_PKCS11_TOKEN.", plugin="keys-pkcs11"
        )
    return name
