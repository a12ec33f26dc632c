"""Cipher suite `gm`: files under SM4-GCM, with HKDF and HMAC over SM3. Algorithms only: compliance needs a certified
module."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.hookspecs import hookimpl
from toolkit.protocols import CipherSuite
from toolkit_suite_gm.cipher import Gm


@hookimpl
def register_cipher_suites() -> Iterable[CipherSuite]:
    """Offer `gm`."""
    return [Gm()]
