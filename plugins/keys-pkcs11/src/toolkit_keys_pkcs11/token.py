"""A token's session and its few operations, by python-pkcs11. What it raises becomes the toolkit's errors."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from toolkit.errors import EnvironmentUnfit, IntegrityError, ToolkitError, UsageError

PLUGIN = "distil-toolkit-keys-pkcs11"
ED25519 = "1.3.101.112"
# PKCS#11 logs a process in, not a session: closing one session would log out another's.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Token:
    """A session with a token whose user is logged in."""

    session: Any

    def make_ed25519(self, key: str, label: str) -> bytes:
        """The public half of a new pair; the private one is sensitive and not extractable."""
        parameters = self.session.create_domain_parameters(
            KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: encode_named_curve_parameters(ED25519)}, local=True
        )
        public, private = parameters.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, id=bytes.fromhex(key), label=label, store=True,
            private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        )  # fmt: skip
        if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE]:
            raise _unfit("the token would give its private key away")
        point = bytes(public[Attribute.EC_POINT])
        if len(point) not in (32, 34):  # bare, or in a DER octet string
            raise _unfit("the token writes an Ed25519 point in a way that is not known")
        return point[-32:]

    def find_signing(self, key: str) -> Any:
        return self._find(key, ObjectClass.PRIVATE_KEY)

    def sign(self, key: str, message: bytes) -> bytes:
        """64 bytes (RFC 8032)."""
        return bytes(self.find_signing(key).sign(message, mechanism=Mechanism.EDDSA))

    def make_aes(self, key: str, label: str) -> None:
        self.session.generate_key(
            KeyType.AES, 256, id=bytes.fromhex(key), label=label, store=True,
            template={
                Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.ENCRYPT: True,
                Attribute.DECRYPT: True,
            },
        )  # fmt: skip

    def encrypt(self, key: str, nonce: bytes, secret: bytes, bound: bytes) -> bytes:
        found = self._find(key, ObjectClass.SECRET_KEY)
        return bytes(
            found.encrypt(secret, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, 128))
        )  # fmt: skip

    def decrypt(self, key: str, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
        """The secret; IntegrityError where anything of it was altered."""
        found = self._find(key, ObjectClass.SECRET_KEY)
        try:
            return bytes(
                found.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, bound, 128))
            )  # fmt: skip
        except (
            pkcs11.exceptions.EncryptedDataInvalid, pkcs11.exceptions.EncryptedDataLenRange,
            pkcs11.exceptions.GeneralError, pkcs11.exceptions.FunctionFailed,
        ) as error:  # fmt: skip
            raise IntegrityError(
                "the token does not open the key: its file was altered", part="key file",
                hint="Restore it from its backup.",
            ) from error  # fmt: skip

    def _find(self, key: str, kind: ObjectClass) -> Any:
        try:
            return self.session.get_key(object_class=kind, id=bytes.fromhex(key))
        except pkcs11.exceptions.NoSuchKey as error:
            raise IntegrityError(
                f"the token holds no key {key[:8]}…", part="key file",
                hint="Restore the token from its backup, or the key file that belongs to this one.",
            ) from error  # fmt: skip


@contextlib.contextmanager
def opened(label: str, pin: str | None) -> Iterator[Token]:
    """A session with the token of this label.

    Raises:
        UsageError: no PIN was given. IntegrityError: it is not the token's.
        EnvironmentUnfit: no module, no such token, the PIN is blocked, or the token fails.
    """
    if not pin:
        raise UsageError(f"the token {label} needs its PIN", hint="Name a file with it in TOOLKIT_PASSPHRASE_FILE.")
    with _ONE_AT_A_TIME:
        try:
            with _library().get_token(token_label=label).open(rw=True, user_pin=pin) as session:
                yield Token(session)
        except ToolkitError:
            raise
        except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange, pkcs11.exceptions.PinInvalid) as error:
            raise IntegrityError(
                f"the PIN does not open the token {label}", part="key file", hint="Check the passphrase file."
            ) from error
        except pkcs11.exceptions.NoSuchToken as error:
            raise _unfit(f"there is no token {label}", "Put it in; `pkcs11-tool -L` lists what is there.") from error
        except pkcs11.exceptions.PinLocked as error:
            raise _unfit(f"the token {label} is blocked", "Unblock it with its security officer's PIN.") from error
        except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
            raise _unfit(f"the token {label} fails: {type(error).__name__} {error}".rstrip()) from error


def _library() -> Any:
    path = os.environ.get("TOOLKIT_PKCS11_MODULE", "")
    if not path:
        raise _unfit("no PKCS#11 module is named", "Give the path of the token's library in TOOLKIT_PKCS11_MODULE.")
    try:
        return pkcs11.lib(path)
    except (pkcs11.exceptions.PKCS11Error, RuntimeError, OSError) as error:
        raise _unfit(f"cannot load the PKCS#11 module {path}", "Check the path and the library.") from error


def _unfit(problem: str, hint: str = "Look into the log of the token's software.") -> EnvironmentUnfit:
    return EnvironmentUnfit(problem, hint=hint, plugin=PLUGIN)
