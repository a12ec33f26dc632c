"""The suites, and how a signer is written: one Ed25519 key, or an Ed25519 and an ML-DSA-65 key that sign together.

A public key is its own id, in hexadecimal; a signer is its keys' ids, joined by `+`. Which suite a document must have
follows from who the trust root says may sign it, never from the document.

A suite's name is that of its cipher, `xwing` for how keys are wrapped, and its signatures, joined by `+`. Core has one
cipher; others come from plugins, and count only where the trust root allows them.
"""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from toolkit.errors import unknown_name

CIPHER = "cob256"
SUITE = f"{CIPHER}+xwing+ed25519"
DUAL_SUITE = f"{SUITE}+mldsa65"
SUITES = (SUITE, DUAL_SUITE)
"""Core's own suites."""
SUITE_NAME = r"[a-z0-9][a-z0-9-]{0,39}\+xwing\+ed25519(\+mldsa65)?"
ED25519_ID, ML_DSA_65_ID = r"[0-9a-f]{64}", r"[0-9a-f]{3904}"
KEY_ID = f"{ED25519_ID}|{ML_DSA_65_ID}"
SIGNER = rf"{ED25519_ID}(\+{ML_DSA_65_ID})?"
MODEL_SIGNER = r"0[23][0-9a-f]{64}"
"""A key of model.sig: a compressed point of P-256 (SEC 1, 2.3.3). It signs no envelope and belongs to no suite."""


def suite_of(signer: str, cipher: str = CIPHER) -> str:
    """The suite in which a signer signs what is encrypted by a cipher."""
    return f"{cipher}{(DUAL_SUITE if '+' in signer else SUITE).removeprefix(CIPHER)}"


def cipher_of(suite: str) -> str:
    """How files are encrypted in a suite."""
    return suite.partition("+")[0]


def is_dual(suite: str) -> bool:
    """Whether an ML-DSA-65 signature stands beside each of Ed25519."""
    return suite.endswith("+mldsa65")


def check_suite_name(suite: str) -> None:
    """UsageError where this is no suite's name; whether its cipher is here is another question."""
    if re.fullmatch(SUITE_NAME, suite) is None:
        raise unknown_name("suite", suite, SUITES)


def keys_of(signer: str) -> frozenset[str]:
    """The ids of the keys that must all sign for a signer."""
    return frozenset(signer.split("+"))


def name_of(signer: str) -> str:
    """How a signer is named where people read it: its Ed25519 key. No trust root names one key in two signers."""
    return signer.partition("+")[0]


def verify_signature(key_id: str, signature: bytes, message: bytes) -> None:
    """Raises InvalidSignature, or ValueError where the id is no key."""
    public = bytes.fromhex(key_id)
    if len(public) == 32:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    elif len(public) == 1952:
        MLDSA65PublicKey.from_public_bytes(public).verify(signature, message)
    else:
        raise InvalidSignature
