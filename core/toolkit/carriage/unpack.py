"""From an image to a bundle's folder: what the trust root does not vouch for never gets its place.

bundle.dsse comes first; nothing else is fetched before its signature held, and then nothing that it does not list, with
the sizes that were signed. The folder is built aside, checked as `toolkit verify` checks, and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from toolkit.carriage.image import Image, Part, Read, checked
from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.grantfile import MAX_GRANT
from toolkit.seal.manifest import ENVELOPE, MAX_ENVELOPE, Manifest
from toolkit.seal.tree import open_tree
from toolkit.seal.trust import TrustRoot
from toolkit.seal.verify import read_bundle, read_envelope
from toolkit.workspace import flush_folder

MARGIN = 4 * 1024 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(image: Image, read: Read, trust: TrustRoot, folder: Path) -> Manifest:
    """Make `folder` the bundle of `image`. Whatever fails, there is no `folder`, and nothing beside it either.

    Raises:
        UsageError: `folder` exists.
        IntegrityError: what was brought is no bundle that `trust` vouches for; `.part` names the file.
        EnvironmentUnfit: no space, no right to write.
    """
    if folder.is_symlink() or folder.exists():
        raise UsageError(f"{folder} exists", hint="Name a folder that does not: it is made.")
    try:
        with _aside(folder) as aside:
            manifest = _fill(aside, image, read, trust)
            os.rename(aside, folder)
            flush_folder(folder.parent)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write {folder}: {error.strerror or error}", hint="Check free space and rights."
        ) from error
    return manifest


def _fill(aside: Path, image: Image, read: Read, trust: TrustRoot) -> Manifest:
    first = [part for part in image.parts if part.path == ENVELOPE]
    if not first or first[0].size > MAX_ENVELOPE:
        raise _unfit(f"{ENVELOPE} is missing, or too long", ENVELOPE)
    _write(aside, first[0], read)
    with open_tree(aside) as root:
        manifest, _ = read_envelope(root, trust)
    rest = [part for part in image.parts if part.path != ENVELOPE]
    _check_listing(rest, manifest)
    _check_space(aside, rest)
    for part in rest:
        _write(aside, part, read)
    for inner in (path for path in aside.rglob("*") if path.is_dir()):
        flush_folder(inner)
    flush_folder(aside)
    return read_bundle(aside, trust).manifest


def _check_listing(parts: list[Part], manifest: Manifest) -> None:
    """What was signed has its signed size and digest; what cannot be listed is small, and judged once it is here."""
    signed = {one.path: one for one in manifest.listed()}
    for part in parts:
        one = signed.pop(part.path, None)
        if one is None and part.path.startswith(("blobs/", "LICENSES/")):
            raise _unfit(f"{part.path} is in the image and not in the bundle's manifest", part.path)
        if one is None and part.size > (MAX_GRANT if part.path.startswith("grants/") else MAX_ENVELOPE):
            raise _unfit(f"{part.path} is longer than any such file", part.path)
        if one is not None and (part.size, part.sha256) != (one.size, one.sha256):
            raise _unfit(f"{one.label} is not what was signed", one.label)
    for one in signed.values():
        raise _unfit(f"{one.label} is missing", one.label)


def _check_space(folder: Path, parts: list[Part]) -> None:
    needed, free = sum(part.size for part in parts) + MARGIN, shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentUnfit(
            f"{folder.parent} has {free / 1e6:,.0f} MB free and {needed / 1e6:,.0f} MB are needed", hint="Make room."
        )


def _write(aside: Path, part: Part, read: Read) -> None:
    """One file, new and flushed. Its path is one of the format's own, and its folder was made here."""
    target = aside / part.path
    target.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(target, _NEW, 0o644)
    with os.fdopen(handle, "wb") as stream, read(part) as pieces:
        for piece in checked(pieces, part):
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, held by a lock and gone at the end; what a killed process left there goes first."""
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    for stale in (path for path in parent.iterdir() if _is_aside(path, folder.name)):
        with _held(stale) as free:
            if free:
                shutil.rmtree(stale, ignore_errors=True)
    aside = parent / f".{folder.name}.{secrets.token_hex(6)}.arriving"
    aside.mkdir(mode=0o755)
    try:
        with _held(aside):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _is_aside(path: Path, name: str) -> bool:
    aside = re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\.arriving", path.name)
    return aside is not None and path.is_dir() and not path.is_symlink()


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the folder; while the block runs, this process does."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(handle)


def _unfit(problem: str, part: str) -> IntegrityError:
    return IntegrityError(problem, part=part, hint="Fetch the bundle again from whoever made it.")
