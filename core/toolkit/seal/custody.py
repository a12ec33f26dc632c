"""What guards a key: an open file, a passphrase, or what a plugin offers, each a `KeyProvider` under its own name.

A key file states its guard in `custody`. Core's two are here; others come from plugins and are looked up only where a
file names one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.protocols import CipherSuite, KeyProvider
from toolkit.seal.canonical import Fields, encode, to_base64
from toolkit.seal.cipher import COB256
from toolkit.seal.suites import cipher_of

# RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes.
ARGON2 = {"iterations": 3, "lanes": 4, "memory_kib": 65536}
PART = "key file"


@dataclass(frozen=True)
class OpenFile:
    """`development`: nothing guards the secret but the file's mode."""

    name: str = "development"

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        return {"secret": to_base64(secret)}

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        return Fields(record, PART).base64("secret")


@dataclass(frozen=True)
class PassphraseFile:
    """`passphrase`: Argon2id and AES-256-GCM, with the rest of the file as associated data."""

    name: str = "passphrase"

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        if not passphrase:
            raise UsageError("the passphrase is empty", hint="Write one line into the passphrase file.")
        salt, nonce = os.urandom(16), os.urandom(12)
        costs = {"kdf": "argon2id", "salt": to_base64(salt), "nonce": to_base64(nonce), **ARGON2}
        sealed = AESGCM(_stretch(passphrase, salt, **ARGON2)).encrypt(nonce, secret, encode({**header, **costs}))
        return costs | {"sealed": to_base64(sealed)}

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        fields = Fields(record, PART)
        fields.text("kdf", "argon2id")
        if passphrase is None:
            raise UsageError("the key is locked by a passphrase", hint="Name its file in TOOLKIT_PASSPHRASE_FILE.")
        costs = {
            "iterations": fields.integer("iterations", low=1, high=16),
            "lanes": fields.integer("lanes", low=1, high=16),
            "memory_kib": fields.integer("memory_kib", low=1024, high=1024 * 1024),
        }
        salt, nonce, sealed = fields.base64("salt"), fields.base64("nonce"), fields.base64("sealed")
        if len(salt) != 16 or len(nonce) != 12:
            raise fields.wrong("salt")
        header = {name: value for name, value in record.items() if name != "sealed"}
        try:
            return AESGCM(_stretch(passphrase, salt, **costs)).decrypt(nonce, sealed, encode(header))
        except InvalidTag as error:
            raise IntegrityError(
                "the passphrase does not open the key", part=PART, hint="Check the passphrase file."
            ) from error


OWN: Mapping[str, KeyProvider] = {one.name: one for one in (OpenFile(), PassphraseFile())}


@dataclass(frozen=True)
class Access:
    """How keys, and what they open, are opened: a passphrase or PIN, and the guards and ciphers that plugins offer,
    asked for only when needed.

    `custody` names the guard of keys that are made; without one it is a passphrase where there is one.
    """

    passphrase: str | None = field(default=None, repr=False)
    providers: Callable[[], Mapping[str, KeyProvider]] = dict
    custody: str = ""
    ciphers: Callable[[], Mapping[str, CipherSuite]] = dict

    @property
    def makes(self) -> str:
        """The guard of a key that is made now."""
        return self.custody or ("development" if self.passphrase is None else "passphrase")

    def provider(self, name: str) -> KeyProvider:
        """The guard of this name.

        Raises:
            UsageError: no plugin offers it here.
        """
        found = OWN.get(name) or self.providers().get(name)
        if found is None:
            raise UsageError(
                f"the keys are guarded by {name[:60]!r}, and nothing here offers that",
                hint="Install its plugin; `toolkit plugins` shows what is offered.",
            )
        return found

    def cipher(self, suite: str) -> CipherSuite:
        """How files are encrypted in a suite.

        Raises:
            EnvironmentUnfit: no plugin offers it here.
        """
        name = cipher_of(suite)
        found = COB256 if name == COB256.name else self.ciphers().get(name)
        if found is None:
            raise EnvironmentUnfit(
                f"the suite {suite[:60]!r} needs the cipher {name[:40]}, and nothing here offers that",
                hint=f"Install its plugin: pip install distil-toolkit-suite-{name[:40]}",
            )
        return found


Unlock = Access | str | None
"""A passphrase alone, None for open files, or all of `Access`."""


def access(unlock: Unlock) -> Access:
    """`unlock` as an Access."""
    return unlock if isinstance(unlock, Access) else Access(unlock)


def alike(unlock: Unlock, custody: str) -> Access:
    """An Access that makes keys guarded as one that is there, where a plugin guards that one."""
    by = access(unlock)
    return by if custody in OWN else replace(by, custody=custody)


def _stretch(passphrase: str, salt: bytes, *, iterations: int, lanes: int, memory_kib: int) -> bytes:
    derive = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return derive.derive(passphrase.encode())
