"""Reading a bundle's folder that somebody hostile may have made, or may be changing.

Works on folder handles: no link is followed, only regular files with one name are read, only names of the format are
accepted, and reading stops at the first that is not. Knows the fixed names of the layout, not what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.canonical import HEX_DIGEST
from toolkit.seal.manifest import ENVELOPE, LICENCE_PATH, MAX_FILES, MODEL_SIGNATURE, PAPERS

MAX_GRANTS = 1024
GRANT_PATH = r"grants/[0-9a-f]{32}\.dsse"
FOLDERS = {"": "(blobs|grants|LICENSES)", "blobs": "sha256"}
NAMES = "|".join(map(re.escape, (ENVELOPE, MODEL_SIGNATURE, *PAPERS)))
FILES = rf"{NAMES}|{GRANT_PATH}|{LICENCE_PATH}|blobs/sha256/{HEX_DIGEST}"
STEP = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a fifo must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def open_tree(path: Path) -> Iterator[int]:
    """A handle of the folder `path`, itself no link."""
    try:
        handle = os.open(path, _FOLDER)
    except FileNotFoundError as error:
        raise UsageError(f"there is no bundle {path}", hint="`toolkit bundle list` shows those in the home.") from error
    except NotADirectoryError as error:
        if path.is_symlink():
            raise _unfit(path.name, "is a link, not a bundle's folder") from error
        raise UsageError(f"{path} is a file, not a bundle's folder", hint="Name the folder that holds it.") from error
    except OSError as error:
        raise EnvironmentUnfit(f"cannot read {path}: {error.strerror}", hint="Check who may read it.") from error
    try:
        yield handle
    finally:
        os.close(handle)


def list_files(root: int) -> Iterator[str]:
    """The paths of all files in the tree, as the format allows them.

    Raises:
        IntegrityError: a name that the format does not have, an empty folder, a link, or more files than allowed.
    """
    yield from _list_folder(root, "")


def read_file(root: int, path: str, *, limit: int, label: str = "") -> bytes:
    """A whole file, at most `limit` bytes long."""
    label = label or path
    with _open(root, path, label) as handle:
        size = os.fstat(handle).st_size
        if size > limit:
            raise _unfit(label, f"is longer than {limit:,} bytes")
        data = b"".join(_pieces(handle, size))
    if len(data) != size:
        raise _unfit(label, "changed while it was read")
    return data


def read_pieces(root: int, path: str, *, size: int, label: str) -> Iterator[memoryview]:
    """A file of exactly `size` bytes, piece by piece; each is valid until the next is asked for."""
    with _open(root, path, label) as handle:
        if os.fstat(handle).st_size != size:
            raise _unfit(label, f"has {os.fstat(handle).st_size:,} bytes where {size:,} were signed")
        buffer = memoryview(bytearray(min(STEP, size)))
        left = size
        while left and (count := os.readv(handle, [buffer[: min(STEP, left)]])):
            left -= count
            yield buffer[:count]
        if left:
            raise _unfit(label, "changed while it was read")


def _list_folder(root: int, folder: str) -> Iterator[str]:
    most = MAX_GRANTS if folder == "grants" else MAX_FILES
    with _open_folder(root, folder) as handle, os.scandir(handle) as entries:
        count = 0
        for entry in entries:
            count += 1
            path = f"{folder}/{entry.name}" if folder else entry.name
            if count > most:
                raise _unfit(folder, f"holds more than {most} files")
            if entry.is_dir(follow_symlinks=False) and re.fullmatch(FOLDERS.get(folder, "(?!)"), entry.name):
                yield from _list_folder(root, path)
            elif re.fullmatch(FILES, path):
                yield path
            else:
                raise _unfit(_printable(path), "does not belong in a bundle")
    if not count:
        raise _unfit(f"{folder}/" if folder else ENVELOPE, "is empty" if folder else "is missing")


@contextlib.contextmanager
def _open_folder(root: int, folder: str) -> Iterator[int]:
    handle = os.dup(root)
    try:
        for name in filter(None, folder.split("/")):
            inner = _at(handle, name, _FOLDER, folder)
            os.close(handle)
            handle = inner
        # A duplicate shares its position with the original: listing it needs a handle of its own.
        listing = os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)
    try:
        yield listing
    finally:
        os.close(listing)


@contextlib.contextmanager
def _open(root: int, path: str, label: str) -> Iterator[int]:
    folder, _, name = path.rpartition("/")
    with _open_folder(root, folder) as parent:
        handle = _at(parent, name, _FILE, label)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _unfit(label, "is not a regular file")
        if found.st_nlink != 1:
            raise _unfit(label, "has a second name (a hard link)")
        if stat.S_IMODE(found.st_mode) & 0o7000:
            raise _unfit(label, "has special mode bits (setuid, setgid or sticky)")
        yield handle
    finally:
        os.close(handle)


def _at(parent: int, name: str, flags: int, label: str) -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except FileNotFoundError as error:
        raise _unfit(label, "is missing") from error
    except PermissionError as error:
        raise EnvironmentUnfit(f"cannot read {label}: {error.strerror}", hint="Check who may read it.") from error
    except OSError as error:
        raise _unfit(label, f"cannot be opened as the file it should be ({error.strerror})") from error


def _pieces(handle: int, limit: int) -> Iterator[bytes]:
    left = limit
    while left and (piece := os.read(handle, min(STEP, left))):
        left -= len(piece)
        yield piece


def _printable(name: str) -> str:
    return ascii(name)[1:-1][:120]


def _unfit(part: str, problem: str) -> IntegrityError:
    return IntegrityError(f"{part} {problem}", part=part, hint="Fetch the bundle again from whoever made it.")
