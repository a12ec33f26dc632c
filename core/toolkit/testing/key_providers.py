"""The conformance suite of key providers: what a plugin that guards keys has to hold to.

Works with real key files in a folder of its own, and knows nothing of how a provider does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature

from toolkit.errors import IntegrityError, ToolkitError
from toolkit.protocols import KeyProvider, SigningProvider
from toolkit.seal.canonical import decode, encode
from toolkit.seal.custody import Access
from toolkit.seal.keyfile import (
    create_recipient_key,
    create_signing_key,
    load_recipient_key,
    load_signing_key,
)
from toolkit.seal.recipient import Recipient, unwrap
from toolkit.seal.suites import DUAL_SUITE, SUITE, verify_signature

SECRET = bytes(range(7, 103))
HEADER = {"format": "distil-key/1", "role": "recipient", "public_id": "ab" * 32}


def check_key_provider(provider: KeyProvider, tmp_path: Path, *, passphrase: str | None, wrong: str | None) -> None:
    """Run the conformance suite of key providers.

    Args:
        tmp_path: an empty folder for key files.
        passphrase: what opens the provider's keys; None where nothing does.
        wrong: another one; None where the provider takes any.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", provider.name), f"{provider.name!r} is no name to type"
    _check_wrapping(provider, passphrase, wrong)
    by = Access(passphrase, lambda: {provider.name: provider}, provider.name)
    for suite in (SUITE, DUAL_SUITE):
        _check_signing(tmp_path / suite.rpartition("+")[2], by, suite)
    _check_receiving(tmp_path, by)
    if isinstance(provider, SigningProvider):
        _check_held(provider, passphrase, wrong)


def _check_wrapping(provider: KeyProvider, passphrase: str | None, wrong: str | None) -> None:
    """A secret comes back whole, to its passphrase and in its own file alone, and shows nowhere."""
    first, again = (dict(provider.wrap(SECRET, HEADER, passphrase)) for _ in range(2))
    assert not set(first) & set(HEADER), "what is wrapped must not replace fields of the file"
    encode(first)  # canonical JSON
    assert provider.unwrap({**HEADER, **first}, passphrase) == SECRET, "a secret comes back as it was"
    if passphrase is None:
        return
    assert first != again, "no two wraps are alike"
    shown = encode(first) + repr(provider).encode()
    assert SECRET.hex().encode() not in shown and SECRET not in shown, "a secret shows"  # noqa: PT018
    assert passphrase.encode() not in shown, "the passphrase shows"
    other = {**HEADER, **first, "public_id": "cd" * 32}
    _refused(lambda: provider.unwrap(other, passphrase), "a wrap is bound to its file")
    for name, value in first.items():
        if isinstance(value, str) and len(value) > 8:
            changed = {**HEADER, **first, name: ("B" if value[0] != "B" else "C") + value[1:]}
            _refused(partial(provider.unwrap, changed, passphrase), f"{name} can be altered")
    if wrong is not None:
        _refused(lambda: provider.unwrap({**HEADER, **first}, wrong), "another passphrase opens it")
    _refused(lambda: provider.unwrap({**HEADER, **first}, None), "it opens without a passphrase", ToolkitError)


def _check_signing(folder: Path, by: Access, suite: str) -> None:
    """A key signs, and again when its file is opened anew; two keys are two; the file may not be altered."""
    path = folder / "key.json"
    made = create_signing_key(path, "publisher", by, suite)
    other = create_signing_key(folder / "other.json", "publisher", by, suite)
    loaded = load_signing_key(path, "publisher", by)
    assert made == loaded, "a key file opens to the key that was made"
    assert made.key_id != other.key_id, "no two keys are alike"
    for key in (made, loaded):
        found = key.signatures(b"message")
        assert len(found) == (2 if suite == DUAL_SUITE else 1), "each of a signer's keys signs"
        for key_id, signature in found.items():
            verify_signature(key_id, signature, b"message")
            try:
                verify_signature(key_id, signature, b"another")
            except InvalidSignature:
                continue
            raise AssertionError("a signature holds for another message")
    record = decode(path.read_bytes(), part="key.json", limit=1 << 20)
    path.write_bytes(encode(record | {"public_id": other.key_id}))
    _refused(lambda: _sign(load_signing_key(path, "publisher", by)), "a file that states another key signs")


def _sign(key: Any) -> None:
    """Signs and checks what was signed, as whoever reads it will."""
    for key_id, signature in key.signatures(b"message").items():
        try:
            verify_signature(key_id, signature, b"message")
        except InvalidSignature as error:
            raise IntegrityError("the signature is another key's") from error


def _check_receiving(tmp_path: Path, by: Access) -> None:
    """A key pair that receives opens what was wrapped to it, now and when its file is opened anew."""
    path = tmp_path / "recipient.json"
    made = create_recipient_key(path, "recipient", by)
    wrapped = Recipient.of(made, "me").wrap(b"k" * 32, b"facts")
    assert unwrap(wrapped, load_recipient_key(path, "recipient", by), b"facts", part="it") == b"k" * 32


def _check_held(provider: SigningProvider, passphrase: str | None, wrong: str | None) -> None:
    public, record = provider.make_signing_key("conformance", passphrase)
    assert len(public) == 32, "an Ed25519 key is 32 bytes"
    encode(dict(record))
    signature = provider.signer(record, passphrase)(b"message")
    verify_signature(public.hex(), signature, b"message")
    if wrong is not None:
        _refused(lambda: provider.signer(record, wrong)(b"message"), "another passphrase signs", ToolkitError)
    _refused(lambda: provider.signer(record, None)(b"message"), "it signs without a passphrase", ToolkitError)


def _refused(what: Callable[[], object], promise: str, kind: type[ToolkitError] = IntegrityError) -> None:
    try:
        what()
    except kind as error:
        told = error.message
    else:
        raise AssertionError(promise)
    assert told, "who is refused is told why"
