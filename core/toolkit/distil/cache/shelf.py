"""What teachers have said in this home: the label stores that runs left, which of them are damaged, and which are old.

It looks at files alone: who used a store when, the registry knows and the caller says. A store that somebody holds is
never removed, and what is removed is gone for every run at once: renamed first, then taken apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from toolkit.distil import labels
from toolkit.distil.cache.store import ABOUT, TokenCache
from toolkit.errors import EnvironmentUnfit, IntegrityError
from toolkit.workspace import MANIFEST, flush_folder, folder_lock

KIND, VIEWS, TOKENS = "labels", "labels", "cache"
"""The artifact's kind in the store, and the folders of an artifact that hold labels of views and of tokens."""

REMOVED = ".removed"
"""How a folder's name ends once it is being taken apart."""


@dataclass(frozen=True)
class Cache:
    """One store of labels, at `path` in its artifact's folder. `rows` are answers: a row under a view, or a sample;
    what is not known is None."""

    artifact: Path
    path: Path
    holds: Literal["views", "tokens", "nothing yet"]
    teacher: str | None
    rows: int | None
    tokens: int | None
    size_bytes: int
    changed: datetime
    complete: bool
    codec: str | None = None
    mass_at_k: float | None = None


@dataclass(frozen=True)
class Old:
    """An artifact, or what is left of one, that may go, and when anybody last had to do with it."""

    path: Path
    why: Literal["unused", "unfinished", "half removed"]
    size_bytes: int
    last_used: datetime


def artifacts(home: Path) -> Sequence[Path]:
    """The folders of finished and unfinished label artifacts, by name."""
    folder = home / "store" / KIND
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and not path.name.endswith(REMOVED))


def caches(home: Path) -> Sequence[Cache]:
    """Every store of labels in this home, the newest first."""
    found = [cache for artifact in artifacts(home) for cache in _caches_of(artifact)]
    return sorted(found, key=lambda cache: cache.changed, reverse=True)


def damaged(artifact: Path) -> Sequence[str]:
    """The shards of an artifact that are not what was written, by their path in it."""
    names = [f"{VIEWS}/{name}" for name in labels.damaged(artifact / VIEWS)]
    for folder in _token_folders(artifact):
        try:
            found = TokenCache.at(folder).verify()
        except IntegrityError as error:
            found = [error.part]
        names += [f"{TOKENS}/{folder.name}/{name}" for name in found]
    return names


def old(home: Path, used: Mapping[str, datetime], older_than: timedelta, now: datetime) -> Sequence[Old]:
    """Label artifacts that nobody used, and unfinished ones that nobody went on with, for so long; none that is held.

    Args:
        used: by an artifact's digest, when a run last made or used it. One that no run knows counts from when it was
            made.
    """
    busy = _is_held(home / "store")
    found = _candidates(home, used, older_than, now)
    return [one for one in found if not (busy and one.why == "unfinished") and not any(map(_is_held, _locks(one.path)))]


def remove(home: Path, used: Mapping[str, datetime], older_than: timedelta, now: datetime) -> Sequence[Old]:
    """Remove what `old` finds; what was removed.

    Raises:
        EnvironmentUnfit: a run is under way.
    """
    gone = []
    with folder_lock(home / "store", purpose="remove old labels of teachers"):
        for one in _candidates(home, used, older_than, now):
            with contextlib.ExitStack() as held:
                try:
                    for folder in _locks(one.path):
                        held.enter_context(folder_lock(folder, purpose="remove it"))
                except EnvironmentUnfit:
                    continue  # somebody writes into it
                _take_apart(one.path)
                gone.append(one)
    return gone


def _candidates(home: Path, used: Mapping[str, datetime], older_than: timedelta, now: datetime) -> Iterator[Old]:
    folder = home / "store" / KIND
    latest = {digest[:32]: moment for digest, moment in used.items()}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir():
            continue
        if path.name.endswith(REMOVED):
            yield Old(path, "half removed", _size(path), _changed(path))
            continue
        finished = (path / MANIFEST).is_file()
        made = _moment(path / MANIFEST) if finished else _changed(path)
        last = max(made, latest.get(path.name, made))
        if now - last >= older_than:
            yield Old(path, "unused" if finished else "unfinished", _size(path), last)


def _take_apart(path: Path) -> None:
    """Out of everybody's sight at once, so that no run takes up a half of it; then file by file."""
    aside = path if path.name.endswith(REMOVED) else path.with_name(f".{path.name.strip('.')}{REMOVED}")
    try:
        if aside != path:
            os.rename(path, aside)
            flush_folder(aside.parent)
        shutil.rmtree(aside)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot remove {error.filename or path}: {error.strerror}", hint="Mend its rights; run it again."
        ) from error


def _caches_of(artifact: Path) -> Iterator[Cache]:
    facts = _json(artifact / MANIFEST).get("facts") or {}
    finished = (artifact / MANIFEST).is_file()
    if (artifact / VIEWS).is_dir():
        index = _json(artifact / VIEWS / labels.INDEX)
        rows = index["views"] * index["rows"] if {"views", "rows"} <= set(index) else None
        yield Cache(
            artifact, artifact / VIEWS, "views", facts.get("name"), rows, None, _size(artifact / VIEWS),
            _changed(artifact), finished and rows is not None,
        )  # fmt: skip
    for folder in _token_folders(artifact):
        yield _token_cache(artifact, folder, finished)
    if not (artifact / VIEWS).is_dir() and not _token_folders(artifact):
        yield Cache(
            artifact,
            artifact,
            "nothing yet",
            facts.get("name"),
            None,
            None,
            _size(artifact),
            _changed(artifact),
            finished,
        )


def _token_cache(artifact: Path, folder: Path, finished: bool) -> Cache:
    size, changed = _size(folder), _changed(folder)
    try:
        cache = TokenCache.at(folder)
    except IntegrityError:
        return Cache(artifact, folder, "tokens", None, None, None, size, changed, False)
    return Cache(
        artifact, folder, "tokens", str(cache.origin.get("teacher")), len(cache), cache.tokens, size, changed,
        finished and cache.complete, cache.codec.name, cache.quality.mass,
    )  # fmt: skip


def _token_folders(artifact: Path) -> Sequence[Path]:
    return sorted(path.parent for path in (artifact / TOKENS).glob(f"*/{ABOUT}"))


def _json(path: Path) -> dict[str, Any]:
    """An object from a file; empty where there is none, or it is damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _locks(folder: Path) -> Sequence[Path]:
    """Folders inside that somebody held, or holds."""
    return sorted(path.parent for path in folder.rglob(".lock"))


def _is_held(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        with folder_lock(folder, purpose="look at it"):
            return False
    except EnvironmentUnfit:
        return True


def _size(folder: Path) -> int:
    return sum(size for size, _ in _files(folder))


def _changed(folder: Path) -> datetime:
    """When a file in it was last written."""
    return datetime.fromtimestamp(max((time for _, time in _files(folder)), default=folder.stat().st_mtime), UTC)


def _moment(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _files(folder: Path) -> Iterator[tuple[int, float]]:
    """Size and time of writing of every file; one that a run has just replaced is passed over."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found = path.stat()
                yield found.st_size, found.st_mtime
