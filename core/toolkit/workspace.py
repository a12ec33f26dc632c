"""Where things are kept: the home, the content-addressed store, run folders, and writing so that a crash loses nothing.

Everything is written aside, flushed, renamed, and the folder flushed; a folder counts only once its manifest is there,
and the manifest is written last. This module never decides what is stored, nor when.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from toolkit.artifacts import Facts
from toolkit.errors import EnvironmentUnfit, IntegrityError

MANIFEST = "artifact.json"
CURVES = "curves"  # folder in the artifact of a stage that trains: how each of its trainings went


def canonical_json(value: Any) -> bytes:
    """One byte string for one value: sorted keys, no white space, UTF-8; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digests(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files below `folder`, by their paths from there."""
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def is_whole(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether files are still what `file_digests` saw."""
    return all((folder / name).is_file() and file_digest(folder / name) == digest for name, digest in files.items())


def flush_folder(folder: Path) -> None:
    """Make renames and new names inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mapped(path: Path) -> memoryview:
    """A file's bytes, read from the disk as they are looked at; for a file that nobody changes, as in an artifact."""
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return memoryview(b"")  # which cannot be mapped
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def write_file(path: Path, data: bytes | memoryview, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` so that a reader or a crash sees the old file or the new one, never a part."""
    write_into(path, lambda stream: stream.write(data), mode=mode)


def write_into(path: Path, write: Callable[[BinaryIO], object], *, mode: int = 0o644) -> None:
    """`write_file` for what is too large to be held as bytes: `write` is given the stream to write to."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise EnvironmentUnfit(f"cannot write {path}: {error.strerror}", hint="Check free space and rights.") from error
    finally:
        with contextlib.suppress(OSError):  # what was wrong is told already
            aside.unlink(missing_ok=True)
    flush_folder(path.parent)


@contextlib.contextmanager
def folder_lock(folder: Path, *, purpose: str, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` for one process; another one is told who waits for what instead of waiting for ever.

    Args:
        wait: seconds to wait for somebody else to end before giving up.

    Raises:
        EnvironmentUnfit: somebody else holds the folder.
    """
    deadline = time.monotonic() + wait
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot use the folder {folder}: {error.strerror}", hint="Choose a folder you may write to."
        ) from error
    with lock as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise EnvironmentUnfit(
                        f"{folder} is in use by another process that wants to {purpose}",
                        hint="Wait until it ends, or stop it.",
                    ) from error
                time.sleep(0.01)
        yield


@dataclass(frozen=True)
class Stored:
    """An artifact as it lies in the store: its folder and what its manifest says."""

    path: Path
    kind: str
    digest: str
    parents: tuple[str, ...]
    facts: Facts


class Workspace:
    """The toolkit home. Nothing in it is needed by a site: `keys`, `store`, `runs`, `bundles`, `registry.db`, and
    `home.id`, which tells its runs from those of other homes in a shared registry."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.keys = home / "keys"
        self.bundles = home / "bundles"
        self.runs = home / "runs"
        self._store = home / "store"
        try:
            self._store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot use {home} as the toolkit home: {error.strerror}",
                hint="Point TOOLKIT_HOME at a folder you may write to.",
            ) from error

    def run_folder(self, run_id: str) -> Path:
        folder = self.runs / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def find(self, kind: str, digest: str) -> Stored | None:
        """The stored artifact of this digest, or None where none was finished."""
        folder = self._folder(kind, digest)
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            return Stored(folder, kind, digest, tuple(manifest["parents"]), manifest["facts"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{folder / MANIFEST} is damaged", part=MANIFEST, hint="Remove the folder; the stage will run again."
            ) from error

    def scratch(self, kind: str, digest: str) -> Path:
        """Where the stage that makes this artifact works. What lies there after a crash is its to take up again."""
        folder = self._partial(kind, digest)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def reopen(self, kind: str, digest: str) -> None:
        """Make the artifact what lies in scratch again: one that no longer holds is mended, not made from nothing."""
        scratch, folder = self._partial(kind, digest), self._folder(kind, digest)
        (folder / MANIFEST).unlink(missing_ok=True)
        if not scratch.exists():
            os.rename(folder, scratch)
            flush_folder(folder.parent)

    def commit(self, kind: str, digest: str, *, parents: tuple[str, ...], facts: Mapping[str, Any]) -> Stored:
        """Turn the scratch folder into the artifact: flush its files, write the manifest last, rename."""
        scratch, folder = self.scratch(kind, digest), self._folder(kind, digest)
        for aside in list(scratch.rglob(".*.tmp")):  # what a killed `write_file` left
            aside.unlink()
        for path in sorted(scratch.rglob("*")):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        manifest = {"kind": kind, "digest": digest, "parents": list(parents), "facts": facts}
        write_file(scratch / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode())
        if folder.exists():
            (folder / MANIFEST).unlink(missing_ok=True)  # first: what is half removed must not count
            shutil.rmtree(folder)
        os.rename(scratch, folder)
        flush_folder(folder.parent)
        return Stored(folder, kind, digest, parents, dict(facts))

    def _partial(self, kind: str, digest: str) -> Path:
        return self._store / kind / f".{digest[:32]}.partial"

    def _folder(self, kind: str, digest: str) -> Path:
        return self._store / kind / digest[:32]
