"""A bundle as an OCI artifact: a manifest that lists every file of it as a layer, under its path (OCI image-spec 1.1).

A layer's digest is that of the file's own bytes, so a registry keeps a blob once, whatever bundles share it. The image
says nothing that anybody may rely on: what is in a bundle, bundle.dsse says.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode
from toolkit.seal.manifest import ENVELOPE, MAX_BLOB, MAX_ENVELOPE, MAX_FILES, Manifest
from toolkit.seal.tree import FILES, MAX_GRANTS, list_files, open_tree, read_file, read_pieces
from toolkit.seal.trust import TrustRoot
from toolkit.seal.verify import read_bundle

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.distil-toolkit.bundle.v1"
FILE_TYPE = "application/vnd.distil-toolkit.bundle.file.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
EMPTY = b"{}"
MAX_IMAGE = 4 * 1024 * 1024
"""Bytes of an image's manifest: what the distribution-spec lets a registry refuse."""
MAX_LAYERS = MAX_FILES + MAX_GRANTS + 16
MAX_LAYER = MAX_BLOB + MAX_BLOB // 512
DIGEST = f"sha256:{HEX_DIGEST}"


@dataclass(frozen=True)
class Part:
    """A file of a bundle as an image lists it: its path, its SHA-256 in hexadecimal and its bytes."""

    path: str
    sha256: str
    size: int

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class Image:
    """An image: `data`, the bytes of its manifest, and the files that it lists, bundle.dsse first."""

    data: bytes = field(repr=False)
    parts: tuple[Part, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def blobs(self) -> Mapping[str, Part]:
        """Every different content by its digest: files that are alike are carried once."""
        return {part.sha256: part for part in (Part("", hashlib.sha256(EMPTY).hexdigest(), len(EMPTY)), *self.parts)}


Read = Callable[[Part], AbstractContextManager[Iterator[bytes | memoryview]]]
"""The bytes of a file of an image, piece by piece; each piece is valid until the next is asked for."""


def image_of(bundle: Path, trust: TrustRoot, *, grants: bool = True) -> tuple[Image, Manifest]:
    """The image of the bundle in the folder `bundle`, once all of that was checked; equal bundles give equal images.

    Args:
        grants: False where the grants travel apart.
    """
    found = read_bundle(bundle, trust)
    listed = {one.path: Part(one.path, one.sha256, one.size) for one in found.manifest.listed()}
    with open_tree(bundle) as root:
        parts = [
            listed.get(path) or _part(path, read_file(root, path, limit=MAX_ENVELOPE))
            for path in list_files(root)
            if grants or not path.startswith("grants/")
        ]
    parts.sort(key=lambda part: (part.path != ENVELOPE, part.path))
    return Image(_manifest(parts), tuple(parts)), found.manifest


def pieces_of(bundle: Path, part: Part) -> Iterator[bytes | memoryview]:
    """The bytes of a file of a bundle that is here; IntegrityError where it changed since its image was made."""
    if not part.path:
        yield EMPTY
        return
    with open_tree(bundle) as root:
        yield from checked(read_pieces(root, part.path, size=part.size, label=part.path), part)


def checked(pieces: Iterator[bytes | memoryview], part: Part) -> Iterator[bytes | memoryview]:
    """The same pieces; IntegrityError where there are more or fewer bytes than the image says, or others."""
    digest, left = hashlib.sha256(), part.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise _unfit(f"{part.path} has more bytes than the {part.size:,} that the image states", part.path)
        digest.update(piece)
        yield piece
    if left:
        raise _unfit(f"{part.path} ends {left:,} bytes before the {part.size:,} that the image states", part.path)
    if digest.hexdigest() != part.sha256:
        raise _unfit(f"{part.path} has not the digest that the image states", part.path)


def read_image(data: bytes, *, part: str) -> Image:
    """The image behind the bytes of a manifest that anybody may have written.

    Raises:
        IntegrityError: no image of a bundle, a path that no bundle has, one that stands twice, a size out of range.
    """
    fields = Fields(decode(data, part=part, limit=MAX_IMAGE, canonical=False), part)
    fields.integer("schemaVersion", low=2, high=2)
    kind = fields.values.get("mediaType", MANIFEST_TYPE), fields.values.get("artifactType")
    if kind != (MANIFEST_TYPE, ARTIFACT_TYPE):
        raise _unfit(f"{part} is not the image of a bundle", part)
    parts = fields.records("layers", _layer, most=MAX_LAYERS)
    if len({one.path for one in parts}) != len(parts):
        raise _unfit(f"{part} lists a file twice", part)
    return Image(data, parts)


def descriptor(image: Image) -> dict[str, Any]:
    """How an index names an image."""
    return {
        "mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE, "digest": f"sha256:{image.sha256}",
        "size": len(image.data),
    }  # fmt: skip


def read_descriptor(fields: Fields) -> tuple[str, int]:
    """SHA-256 in hexadecimal and size of what a descriptor names."""
    return fields.text("digest", DIGEST).removeprefix("sha256:"), fields.integer("size", high=MAX_LAYER)


def _manifest(parts: list[Part]) -> bytes:
    config = _descriptor(EMPTY_TYPE, Part("", hashlib.sha256(EMPTY).hexdigest(), len(EMPTY)))
    layers = [_descriptor(FILE_TYPE, part) | {"annotations": {TITLE: part.path}} for part in parts]
    return encode(
        {
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": ARTIFACT_TYPE, "config": config,
            "layers": layers,
        }
    )  # fmt: skip


def _descriptor(kind: str, part: Part) -> dict[str, Any]:
    return {"mediaType": kind, "digest": part.digest, "size": part.size}


def _part(path: str, data: bytes) -> Part:
    return Part(path, hashlib.sha256(data).hexdigest(), len(data))


def _layer(fields: Fields) -> Part:
    sha256, size = read_descriptor(fields)
    path = fields.record("annotations", lambda inner: inner.text(TITLE))
    if re.fullmatch(FILES, path) is None:
        raise _unfit(f"{ascii(path)[:120]} does not belong in a bundle", fields.part)
    return Part(path, sha256, size)


def _unfit(problem: str, part: str) -> IntegrityError:
    return IntegrityError(problem, part=part, hint="Fetch the bundle again from whoever made it.")
