"""Opening a bundle for the one who holds a grant: files by role, in RAM only.

A blob is read once and decrypted, piece by piece, into a buffer that is wiped on close; every chunk is checked by its
tag, the whole by the keyed hash in the manifest. Nothing that did not pass every check is handed on; nothing touches a
disk.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from types import TracebackType

from toolkit.errors import IntegrityError, UsageError
from toolkit.protocols import CipherSuite
from toolkit.seal.cipher import content_key_id, decrypt_into, file_context
from toolkit.seal.custody import Unlock, access
from toolkit.seal.grantfile import Grant, choose_grant, unwrap_content_keys
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.manifest import Manifest, PlainFile, SecretFile, Variant, blob_label, blob_path
from toolkit.seal.memory import SecretBuffer
from toolkit.seal.readable import read_plain
from toolkit.seal.tree import open_tree, read_pieces
from toolkit.seal.trust import TrustRoot
from toolkit.seal.verify import read_head


class OpenedBundle:
    """An opened variant. Use as a context manager, or call `close()`: the buffers are zeroed then.

    `manifest`, `variant`, `path` and `grant` are public; `read` and `view` give the files.
    """

    def __init__(
        self, path: Path, manifest: Manifest, variant: Variant, content_key: bytes, grant: Grant, cipher: CipherSuite
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.variant = variant
        self.grant = grant
        self._content_key = content_key
        self._cipher = cipher
        self._buffers: dict[str, tuple[SecretBuffer, int]] = {}
        self._closed = False

    @property
    def grant_id(self) -> str:
        return self.grant.grant_id

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of all files that can be read."""
        return (*(file.role for file in self.variant.files), *(file.role for file in self.manifest.files))

    def view(self, role: str) -> memoryview:
        """Read-only view of a file; it shows zeros after `close()`.

        Raises:
            UsageError: the bundle has no such role, or is closed.
            IntegrityError: the file is not what was signed, or does not open.
        """
        if self._closed:
            raise UsageError(f"the bundle {self.manifest.bundle_id} was closed", hint="Open it again.")
        if role not in self._buffers:
            self._buffers[role] = self._load(role)
        buffer, size = self._buffers[role]
        return buffer.view[:size].toreadonly()

    def read(self, role: str) -> bytes:
        """A copy of a file. Drop it soon: Python cannot wipe it. Errors as in `view`."""
        return bytes(self.view(role))

    def forget(self, role: str) -> None:
        """Wipe one file's buffer, once a runtime has made its own copy."""
        if role in self._buffers:
            self._buffers.pop(role)[0].wipe()

    def close(self) -> None:
        """Zero every buffer. The content key's few bytes are only dropped, for Python cannot overwrite them."""
        for role in list(self._buffers):
            self.forget(role)
        self._content_key = b""
        self._closed = True

    def __enter__(self) -> OpenedBundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenedBundle({self.manifest.bundle_id}, variant {self.variant.name})"

    def _load(self, role: str) -> tuple[SecretBuffer, int]:
        for secret in self.variant.files:
            if secret.role == role:
                return self._decrypt(secret)
        for plain in self.manifest.files:
            if plain.role == role:
                return self._plain(plain)
        raise UsageError(f"the bundle {self.manifest.bundle_id} has no {role}", hint=f"It has {', '.join(self.roles)}.")

    def _plain(self, file: PlainFile) -> tuple[SecretBuffer, int]:
        with open_tree(self.path) as root:
            data = read_plain(root, file)
        buffer = SecretBuffer(len(data))
        with buffer.view as view:
            view[:] = data
        return buffer, len(data)

    def _decrypt(self, file: SecretFile) -> tuple[SecretBuffer, int]:
        label = blob_label(file.cipher_sha256, file.role)
        if file.cipher_size != self._cipher.ciphertext_size(file.size):
            raise IntegrityError(f"{label} cannot hold {file.size:,} bytes", part=label)
        context = file_context(
            product=self.manifest.product, bundle_id=self.manifest.bundle_id,
            variant=self.variant.name, path=file.path,
        )  # fmt: skip
        buffer = SecretBuffer(file.cipher_size)
        with open_tree(self.path) as root:
            pieces = read_pieces(root, blob_path(file.cipher_sha256), size=file.cipher_size, label=label)
            size, mac = decrypt_into(pieces, buffer, self._content_key, context, part=label, cipher=self._cipher)
        # The signed hash of the plaintext says as much as the signed digest of the ciphertext, and saves a pass.
        if size != file.size or not hmac.compare_digest(mac, file.mac):
            buffer.wipe()
            raise IntegrityError(f"{label} opens to something else than was sealed", part=label)
        return buffer, size


def open_bundle(
    path: Path, trust: TrustRoot, *keys: RecipientKey, variant: str | None = None, unlock: Unlock = None
) -> OpenedBundle:
    """Open the bundle in the folder `path` with the newest grant for one of `keys`.

    Args:
        variant: which form of the model; the first one the grant opens where not given.
        unlock: the ciphers that plugins offer.

    Raises:
        IntegrityError: manifest or grants are not as signed, or no grant is for this key; a file is checked when it
            is read.
        EnvironmentUnfit: nothing here offers the cipher of its suite.
    """
    found = read_head(path, trust)
    cipher = access(unlock).cipher(found.manifest.suite)
    grant = choose_grant(found.grants, *keys)
    trust.check_revoked(grant.recipient, part=grant.label)
    key = next(key for key in keys if key.fingerprint == grant.recipient)
    content_keys = unwrap_content_keys(grant, key)
    for candidate in found.manifest.variants:
        if candidate.name in content_keys and variant in (None, candidate.name):
            content_key = content_keys[candidate.name]
            if any(file.key_id != content_key_id(content_key) for file in candidate.files):
                raise IntegrityError(f"{grant.label} holds keys of another bundle", part=grant.label)
            return OpenedBundle(path, found.manifest, candidate, content_key, grant, cipher)
    raise IntegrityError(f"{grant.label} opens no variant {variant or ''}of this bundle", part=grant.label)
