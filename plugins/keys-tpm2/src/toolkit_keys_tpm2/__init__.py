"""Key provider `tpm2`: key files that only the TPM of this machine opens, and by wish only in a state it measured."""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.hookspecs import hookimpl
from toolkit.protocols import KeyProvider
from toolkit_keys_tpm2.provider import TpmKeys


@hookimpl
def register_key_providers() -> Iterable[KeyProvider]:
    """Offer `tpm2`."""
    return [TpmKeys()]
