"""A parcel: some bytes that one recipient alone can read, in one file. What a site keeps of its customers' inputs, and
what it sends to the lab, is kept so.

A first line of canonical JSON names the recipient and holds the content key, wrapped to it as in a grant (`recipient`);
the rest is ciphertext as of a bundle's blobs (`cipher`). Both are bound to what the parcel is and how it is called, so
none can stand in another's place. Who packed it a parcel does not say: whatever sends parcels signs a list of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from toolkit.errors import UsageError
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode, length_prefixed, to_base64
from toolkit.seal.cipher import decrypt_into, encrypt_file, new_content_key
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.memory import SecretBuffer
from toolkit.seal.recipient import Recipient, unwrap

FORMAT = "distil-parcel/1"
MAX_HEADER = 16 * 1024


def pack(data: bytes, recipient: Recipient, *, kind: str, name: str) -> bytes:
    """`data` for `recipient` alone; it opens only as the same `kind` and `name`."""
    key = new_content_key()
    header = {
        "format": FORMAT, "critical": [], "kind": kind, "recipient": recipient.fingerprint,
        "key": to_base64(recipient.wrap(key, _bound(b"key", kind, name))),
    }  # fmt: skip
    parts = [encode(header), b"\n"]
    encrypt_file(data, key, _bound(b"data", kind, name), lambda piece: parts.append(bytes(piece)))
    return b"".join(parts)


def unpack(parcel: bytes, keys: Iterable[RecipientKey], *, kind: str, name: str) -> bytes:
    """What was packed.

    Args:
        keys: of which one is the recipient's.

    Raises:
        UsageError: it is for somebody else. IntegrityError: altered, or not the parcel of this kind and name.
    """
    head = parcel[: MAX_HEADER + 1].partition(b"\n")[0]
    ciphertext = parcel[len(head) + 1 :]
    fields = Fields(decode(head, part=name, limit=MAX_HEADER), name)
    fields.header(FORMAT)
    fingerprint = fields.text("recipient", HEX_DIGEST)
    key = next((one for one in keys if one.fingerprint == fingerprint), None)
    if key is None:
        raise UsageError(
            f"{name} is for another recipient, {fingerprint[:16]}…", hint="Open it where that recipient's key is."
        )
    content_key = unwrap(fields.base64("key"), key, _bound(b"key", kind, name), part=name)
    buffer = SecretBuffer(len(ciphertext))
    try:
        size, _ = decrypt_into([ciphertext], buffer, content_key, _bound(b"data", kind, name), part=name)
        with buffer.view as view:
            return bytes(view[:size])
    finally:
        buffer.wipe()


def _bound(what: bytes, kind: str, name: str) -> bytes:
    return length_prefixed(b"distil-toolkit parcel", what, kind.encode(), name.encode())
