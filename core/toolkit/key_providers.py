"""What guards keys at rest, as a plugin offers it; seen through `protocols`. Types only: nothing here runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable


class KeyProvider(Protocol):
    """What guards keys at rest. `name` is the `custody` that a key file states, and picks it.

    A secret is wrapped for a key file: the fields that `wrap` returns go into it, beside `header`, to which they must
    be bound. `passphrase` is what the user has given, the PIN of a token; each provider says what it needs.
    """

    @property
    def name(self) -> str: ...

    def wrap(self, secret: bytes, header: Mapping[str, Any], passphrase: str | None) -> Mapping[str, Any]:
        """Fields of canonical JSON (texts and integers) from which only `unwrap` makes the secret again; one of them is
        `sealed` where a token is needed for that."""
        ...

    def unwrap(self, record: Mapping[str, Any], passphrase: str | None) -> bytes:
        """The secret of a key file.

        Raises:
            UsageError: a passphrase is needed. EnvironmentUnfit: the token is not here.
            IntegrityError: another passphrase, or any field of the file was altered.
        """
        ...


@runtime_checkable
class SigningProvider(KeyProvider, Protocol):
    """A provider that holds Ed25519 keys itself: they are made in it and never leave it."""

    def make_signing_key(self, label: str, passphrase: str | None) -> tuple[bytes, Mapping[str, Any]]:
        """A new key: its public half, 32 bytes, and the fields by which `signer` finds it again. No two are alike."""
        ...

    def signer(self, record: Mapping[str, Any], passphrase: str | None) -> Callable[[bytes], bytes]:
        """Signs messages with the key of a key file. Errors as in `unwrap`, now or when it signs."""
        ...
