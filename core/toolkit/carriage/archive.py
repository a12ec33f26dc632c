"""A bundle as one file, to be carried by hand: a tar of the OCI image-layout, which registries' tools read too.

Written, it is the same bytes for the same bundle. Read, it may have been made by anybody: only plain headers of regular
files (and of the layout's own folders) are taken, by `tarfile`'s parser of one header; no extension that could lie of a
size or a name, no name that the layout does not have, none twice. Nothing is extracted: members are read by offset.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from toolkit.carriage.image import (
    MANIFEST_TYPE,
    MAX_IMAGE,
    MAX_LAYER,
    MAX_LAYERS,
    Image,
    Part,
    checked,
    descriptor,
    image_of,
    pieces_of,
    read_descriptor,
    read_image,
)
from toolkit.carriage.unpack import unpack
from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.canonical import HEX_DIGEST, Fields, decode, encode
from toolkit.seal.manifest import Manifest
from toolkit.seal.trust import TrustRoot
from toolkit.workspace import write_into

LAYOUT, INDEX = "oci-layout", "index.json"
LAYOUT_VERSION = "1.0.0"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
MEMBER = rf"(\./)?({LAYOUT}|{re.escape(INDEX)}|blobs/sha256/{HEX_DIGEST})"
FOLDER = r"(\.|(\./)?blobs(/sha256)?)"
MAX_MEMBERS = MAX_LAYERS + 8
BLOCK, RECORD, STEP = tarfile.BLOCKSIZE, tarfile.RECORDSIZE, 1 << 20
MAX_PADDING = 1 << 20
"""Bytes of zeros after the end: tar fills up to whole records, whose length is the writer's choice."""


def export_bundle(bundle: Path, trust: TrustRoot, file: Path, *, grants: bool = True) -> tuple[Image, Manifest]:
    """Write the bundle in the folder `bundle` into the new file `file`.

    Raises:
        UsageError: `file` exists.
        IntegrityError: the bundle is not as it was sealed.
        EnvironmentUnfit: no space, no right to write.
    """
    if file.is_symlink() or file.exists():
        raise UsageError(f"{file} exists", hint="Name a file that does not.")
    image, manifest = image_of(bundle, trust, grants=grants)
    write_into(file, lambda stream: _write(stream, bundle, image, manifest.bundle_id))
    return image, manifest


def import_bundle(file: Path, trust: TrustRoot, folder: Path) -> Manifest:
    """Make the new folder `folder` the bundle that lies in `file`; errors as in `unpack`."""
    with open_archive(file) as archive:
        return unpack(archive.image(), archive.read, trust, folder)


@dataclass(frozen=True)
class Archive:
    """An open tar: where each member's bytes begin, and how many there are."""

    stream: BinaryIO
    members: Mapping[str, tuple[int, int]]

    def image(self) -> Image:
        """The one image of the layout; IntegrityError where there is none, or another, or a blob that it lacks."""
        layout = Fields(decode(self._small(LAYOUT), part=LAYOUT, limit=MAX_IMAGE, canonical=False), LAYOUT)
        layout.text("imageLayoutVersion", re.escape(LAYOUT_VERSION))
        index = Fields(decode(self._small(INDEX), part=INDEX, limit=MAX_IMAGE, canonical=False), INDEX)
        named = index.records("manifests", _image_of_index, most=1)
        if not named:
            raise _unfit(f"{INDEX} names no image", INDEX)
        (sha256, size) = named[0]
        part = Part(_blob(sha256), sha256, size)
        if size > MAX_IMAGE:
            raise _unfit(f"the image is longer than {MAX_IMAGE:,} bytes", part.path)
        with self.read(part) as pieces:
            image = read_image(b"".join(checked(pieces, part)), part=part.path)
        listed = {LAYOUT, INDEX, part.path, *(_blob(sha256) for sha256 in image.blobs())}
        for name in self.members:
            if name not in listed:
                raise _unfit(f"{name} is in the archive and not in its image", name)
        return image

    @contextlib.contextmanager
    def read(self, part: Part) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob; where the archive has another number of them, they are not what the image states."""
        yield self._pieces(_blob(part.sha256), part.path)

    def _pieces(self, name: str, label: str) -> Iterator[bytes]:
        if name not in self.members:
            raise _unfit(f"{label} is missing", label)
        start, left = self.members[name]
        self.stream.seek(start)
        while left and (piece := self.stream.read(min(STEP, left))):
            left -= len(piece)
            yield piece

    def _small(self, name: str) -> bytes:
        if self.members.get(name, (0, 0))[1] > MAX_IMAGE:
            raise _unfit(f"{name} is longer than {MAX_IMAGE:,} bytes", name)
        return b"".join(self._pieces(name, name))


@contextlib.contextmanager
def open_archive(file: Path) -> Iterator[Archive]:
    """The members of a tar that anybody may have made.

    Raises:
        UsageError: there is no such file.
        IntegrityError: no tar, or one that holds what no image-layout has.
    """
    try:
        # O_NONBLOCK: opening a fifo must not wait for its writer.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"there is no archive {file}", hint="Check the path.") from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {file}: {error.strerror}", hint="Check who may read it.") from error
    with os.fdopen(handle, "rb") as stream:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{file} is no regular file", hint="Name the tar that `toolkit bundle export` wrote.")
        try:
            yield Archive(stream, dict(_members(stream, found.st_size)))
        except OSError as error:
            raise EnvironmentUnfit(f"cannot read {file}: {error.strerror}", hint="Check the medium.") from error


def _members(stream: BinaryIO, size: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (offset, size)) of every file, up to the end of the archive, behind which lie zeros alone."""
    seen: set[str] = set()
    for count in range(MAX_MEMBERS + 1):
        header = stream.read(BLOCK)
        if header == bytes(BLOCK):
            _check_end(stream, size)
            return
        name, length = _header(header)
        if name in seen:
            raise _unfit(f"{name} stands twice in the archive", name)
        if count == MAX_MEMBERS:
            break
        seen.add(name)
        start = stream.tell()
        if start + length > size:
            raise _unfit(f"{name} is cut short", name)
        if not name.endswith("/"):
            yield name, (start, length)
        stream.seek(start + -(-length // BLOCK) * BLOCK)
    raise _unfit(f"the archive holds more than {MAX_MEMBERS:,} members", INDEX)


def _header(header: bytes) -> tuple[str, int]:
    """Name and size of a member; the layout's folders, which hold nothing, have names that end in a slash."""
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _unfit(f"the archive is cut short, or no tar ({error})", INDEX) from error
    name = ascii(found.name)[1:-1][:120]
    if found.isdir() and re.fullmatch(FOLDER, found.name) and not found.size:
        return f"{found.name.removeprefix('./')}/", 0
    # The type by itself: `isreg` takes sparse files for regular ones.
    if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _unfit(f"{name} is no regular file of the archive (type {found.type!r})", name)
    if re.fullmatch(MEMBER, found.name) is None:
        raise _unfit(f"{name} does not belong in an image-layout", name)
    if not 0 <= found.size <= MAX_LAYER:
        raise _unfit(f"{name} states a size of {found.size:,} bytes", name)
    return found.name.removeprefix("./"), found.size


def _check_end(stream: BinaryIO, size: int) -> None:
    left = size - stream.tell()
    if left > MAX_PADDING or any(stream.read(MAX_PADDING)):
        raise _unfit("something lies behind the end of the archive", INDEX)


def _image_of_index(fields: Fields) -> tuple[str, int]:
    fields.text("mediaType", re.escape(MANIFEST_TYPE))
    return read_descriptor(fields)


def _write(stream: BinaryIO, bundle: Path, image: Image, name: str) -> None:
    index = {
        "schemaVersion": 2, "mediaType": INDEX_TYPE,
        "manifests": [descriptor(image) | {"annotations": {REF_NAME: name}}],
    }  # fmt: skip
    _put(stream, LAYOUT, encode({"imageLayoutVersion": LAYOUT_VERSION}))
    _put(stream, INDEX, encode(index))
    _put(stream, _blob(image.sha256), image.data)
    for part in image.blobs().values():
        stream.write(_tar_header(_blob(part.sha256), part.size))
        for piece in pieces_of(bundle, part):
            stream.write(piece)
        stream.write(bytes(-part.size % BLOCK))
    stream.write(bytes(2 * BLOCK))
    stream.write(bytes(-stream.tell() % RECORD))


def _put(stream: BinaryIO, name: str, data: bytes) -> None:
    stream.write(_tar_header(name, len(data)) + data + bytes(-len(data) % BLOCK))


def _tar_header(name: str, size: int) -> bytes:
    """Nothing of the machine that wrote it: no owner, no time."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header.tobuf(tarfile.USTAR_FORMAT)


def _blob(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


def _unfit(problem: str, part: str) -> IntegrityError:
    return IntegrityError(problem, part=part, hint="Fetch the archive again from whoever made it.")
