"""Key provider `pkcs11`: Ed25519 keys that never leave a token, and secrets that only the token opens."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.hookspecs import hookimpl
from toolkit.protocols import KeyProvider
from toolkit_keys_pkcs11.provider import TokenKeys


@hookimpl
def register_key_providers() -> Iterable[KeyProvider]:
    """Offer `pkcs11`."""
    return [TokenKeys()]
