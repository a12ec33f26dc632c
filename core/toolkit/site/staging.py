"""Moving files into a site so that a crash at any point leaves nothing half done: a staging folder on the site's own
file system, flushed, then renamed. Knows paths of the bundle format, not what the files are.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType

from toolkit.errors import EnvironmentUnfit
from toolkit.site.layout import Site
from toolkit.site.state import read_state
from toolkit.workspace import flush_folder

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """A new version being written. Files are new, readable by the owner alone, and flushed when they are complete."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(8)
        self.path.mkdir(mode=0o700, parents=True)
        self._open: tuple[str, int] | None = None

    def receive(self, path: str, piece: bytes | memoryview) -> None:
        """The next piece of the file `path`; a new path ends the file before."""
        if self._open is None or self._open[0] != path:
            self.close()
            target = self.path / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open = path, os.open(target, _NEW, 0o400)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._open[1], view) :]

    def add(self, path: str, data: bytes) -> None:
        """A whole file."""
        self.receive(path, data)
        self.close()

    def close(self) -> None:
        """Flush and end the file at hand."""
        if self._open is not None:
            handle = self._open[1]
            self._open = None
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def finish(self) -> None:
        """Flush the folders, once all files are there."""
        self.close()
        for folder in (*self.folders(), self.path):
            flush_folder(folder)

    def files(self) -> list[Path]:
        """Paths of all files, relative to the staging folder."""
        return [path.relative_to(self.path) for path in sorted(self.path.rglob("*")) if not path.is_dir()]

    def folders(self) -> list[Path]:
        """All folders inside, innermost first."""
        return sorted((path for path in self.path.rglob("*") if path.is_dir()), reverse=True)


def put_version(staging: Staging, target: Path) -> None:
    """Make the staged files the version in `target`: by one rename, or, where it exists, by replacing file by file.

    Replacing repairs a damaged version and brings a new grant; each step leaves valid files where there were valid
    ones, and repeating it after a crash completes it.
    """
    try:
        if not target.is_symlink() and not target.exists():
            os.rename(staging.path, target)
        else:
            _replace_files(staging, target)
        flush_folder(target.parent)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write {target}: {error.strerror}", hint="Check free space and rights."
        ) from error


def clear_leftovers(site: Site) -> None:
    """Remove staging folders, and versions that the state on the disk does not keep. The caller holds the site's lock.
    What cannot be removed stays until it can."""
    kept = {version.bundle_id for version in read_state(site.current, site.key_id).kept}
    stale = [*_children(site.staging), *(path for path in _children(site.versions) if path.name not in kept)]
    for path in stale:
        with contextlib.suppress(OSError):
            _remove(path)


def _replace_files(staging: Staging, target: Path) -> None:
    staged = staging.files()
    if target.is_symlink() or not target.is_dir():
        target.unlink()
    for path in staged:
        place = target / path
        for folder in reversed([place.parent, *place.parent.parents]):
            if folder.is_relative_to(target) and (folder.is_symlink() or not folder.is_dir()):
                folder.unlink(missing_ok=True)
                folder.mkdir(mode=0o700)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        os.replace(staging.path / path, place)
    wanted = {target / path for path in staged}
    wanted |= {folder for path in wanted for folder in path.parents}
    for path in sorted(target.rglob("*"), reverse=True):
        if path not in wanted:
            _remove(path)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        flush_folder(folder)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
