"""How a folder of images is laid out: which files there are, their labels and splits, and the licence.

Opens no image, follows no link out of the folder, and changes nothing. What is inside the files is for `checks`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.artifacts import SPLIT_NAMES
from toolkit.errors import DataError
from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.licence import NAMES
from toolkit.workspace import digest_of, file_digest

UNLABELLED = "unlabelled"
_UNLABELLED_FOLDERS = (UNLABELLED, "unlabeled")
_SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
_MOST_BYTES = 400_000_000
_HINT = "Put the images into one folder per class: CLASS/*.jpg, or train/CLASS/*.jpg and test/CLASS/*.jpg."


@dataclass(frozen=True)
class Entry:
    """One file in a class folder, or in `unlabelled/`: then, and only then, `label` is empty. `path` is relative to
    the source, with `/`; `split` is empty where the folder has no splits of its own; `refused` says why it must not be
    opened, if so."""

    path: str
    label: str
    split: str
    refused: str = ""


@dataclass(frozen=True)
class Layout:
    """What lies in `source`: entries sorted by path, class folders by split (`""` without splits), and findings.
    `unlabelled/` is no class folder and no split of `folders`."""

    source: Path
    entries: tuple[Entry, ...]
    folders: dict[str, tuple[str, ...]]
    licence_file: Path | None
    findings: tuple[Finding, ...]

    @property
    def has_splits(self) -> bool:
        return "" not in self.folders

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names, sorted."""
        return tuple(sorted({label for labels in self.folders.values() for label in labels}))


@dataclass
class _Scan:
    source: Path
    entries: list[Entry] = field(default_factory=list)
    folders: dict[str, set[str]] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def relative(self, path: str) -> str:
        return Path(path).relative_to(self.source).as_posix()

    def note(self, kind: str, message: str, rows: Iterable[str] = ()) -> None:
        self.findings.append(Finding(kind, "note", message, tuple(rows)))


def scan_folder(source: Path, *, purpose: str = "train") -> Layout:
    """Find out how `source` is laid out: `train/CLASS` and `test/CLASS` (`validation/CLASS` too, if there), or `CLASS`;
    and, for `train`, the files without labels anywhere in `unlabelled/` (or `unlabeled/`) beside them.

    Hidden and system files and folders beside the splits are no part of it. Links are read where they lead to a file
    inside `source`, and refused elsewhere.

    Raises:
        DataError: no such folder, not a folder, empty, no class folders; for `train` also fewer than two classes, no
            train folder beside a test folder, or classes elsewhere that train lacks.
    """
    layout = scan_any(source, unlabelled=purpose == "train")
    return _trainable(layout) if purpose == "train" else layout


def source_digest(source: Path) -> str:
    """SHA-256 over the sorted (path, SHA-256) list of all files in class folders and `unlabelled/`, and of the LICENSE
    file: what one trains on. A data set for `evaluate` has a digest without `unlabelled/`.

    Reads every byte and decodes nothing, so it is quick. Raises DataError as `scan_folder` does for `evaluate`.
    """
    layout = scan_any(source, unlabelled=True)
    return digest_of_files(layout, {e.path: read_digest(layout.source, e) for e in layout.entries})


def read_digest(source: Path, entry: Entry) -> str:
    """The SHA-256 of an entry's bytes; empty where it is refused or cannot be read."""
    if entry.refused:
        return ""
    try:
        return file_digest(source / entry.path)
    except OSError:
        return ""


def digest_of_files(layout: Layout, digests: dict[str, str]) -> str:
    """`source_digest` where the files' digests are known."""
    files = sorted(digests.items())
    if layout.licence_file is not None:
        files.append((layout.licence_file.name, file_digest(layout.licence_file)))
    return digest_of([list(pair) for pair in files])


def scan_any(source: Path, *, unlabelled: bool) -> Layout:
    """As `scan_folder`, whatever can be learnt from it. Raises DataError: no folder, or nothing in class folders."""
    source = _existing(source)
    scan = _Scan(source)
    top = _listing(source)
    if not top:
        raise DataError(f"{source} is empty", hint=_HINT)
    splits = {e.name: SPLIT_NAMES[e.name.lower()] for e in top if e.name.lower() in SPLIT_NAMES and _holds_folders(e)}
    if not {"train", "test"} & set(splits.values()):
        splits = {}
    beside = []
    for item in top:
        if item.name.lower() in _UNLABELLED_FOLDERS and os.path.isdir(item.path):
            _scan_unlabelled(scan, item, read=unlabelled)
        elif item.name in splits:
            _scan_classes(scan, _listing(Path(item.path)), splits[item.name])
        elif splits and _is_folder(item):
            beside.append(item.name)
        elif not splits:
            _scan_classes(scan, [item], "")
    if beside:
        scan.note("ignored-folder", f"beside the splits and not read: {listed(beside)}")
    return _checked(scan, _licence_file(top, source))


def _existing(source: Path) -> Path:
    try:
        there = source.exists()
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}", hint="Check its access rights.") from error
    if not there:
        raise DataError(f"there is no folder {source}", hint="Check the path; it must be a folder of images.")
    if not source.is_dir():
        raise DataError(f"{source} is a file, not a folder of images", hint=_HINT)
    return source.resolve()


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, without hidden and system files."""
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not e.name.startswith(".") and e.name.lower() not in _SYSTEM]
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}", hint="Check its access rights.") from error
    return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _holds_folders(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) and any(_is_folder(inner) for inner in _listing(Path(entry.path)))


def _scan_classes(scan: _Scan, items: list[os.DirEntry[str]], split: str) -> None:
    labels = scan.folders.setdefault(split, set())
    for item in items:
        if not _has_text_name(scan, item):
            continue
        if _is_folder(item):
            label = unicodedata.normalize("NFC", item.name)  # macOS writes accents apart, others in one
            labels.add(label)
            _scan_files(scan, Path(item.path), label, split)
        elif item.is_symlink() and os.path.isdir(item.path):
            _refuse_folder_link(scan, item)
        elif split or Path(item.name).suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"):
            scan.loose.append(scan.relative(item.path))


def _scan_unlabelled(scan: _Scan, item: os.DirEntry[str], *, read: bool) -> None:
    if not _is_folder(item):
        _refuse_folder_link(scan, item)
    elif read:
        _scan_files(scan, Path(item.path), "", UNLABELLED)
        scan.note("unlabelled", f"{item.name}/: images without labels, which the teacher labels for the student")
    else:
        scan.note("unlabelled", f"{item.name}/ is set aside for images without labels and was not read")


def _scan_files(scan: _Scan, folder: Path, label: str, split: str) -> None:
    for item in _listing(folder):
        if not _has_text_name(scan, item):
            continue
        if _is_folder(item):
            _scan_files(scan, Path(item.path), label, split)
        elif item.is_symlink() and os.path.isdir(item.path):
            _refuse_folder_link(scan, item)
        else:
            scan.entries.append(Entry(scan.relative(item.path), label, split, _refusal(scan.source, item)))


def _has_text_name(scan: _Scan, item: os.DirEntry[str]) -> bool:
    try:
        item.name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(item.name).decode("utf-8", errors="replace")
        scan.findings.append(Finding("file-name", "error", f"{shown}: the name is not valid UTF-8; it was not read"))
        return False
    return True


def _refuse_folder_link(scan: _Scan, item: os.DirEntry[str]) -> None:
    where = "inside" if Path(os.path.realpath(item.path)).is_relative_to(scan.source) else "out of"
    name = scan.relative(item.path)
    message = f"{name} links to a folder {where} the source; such links are not followed"
    scan.findings.append(Finding("link", "note" if where == "inside" else "error", message, (name,)))


def _refusal(source: Path, item: os.DirEntry[str]) -> str:
    if item.is_symlink():
        target = Path(os.path.realpath(item.path))
        if not target.is_relative_to(source):
            return "it is a link that leaves the folder"
        if not os.path.exists(item.path):
            return "it is a link that leads nowhere"
    if not item.is_file():
        return "it is not a regular file"
    if item.stat().st_size > _MOST_BYTES:
        return f"the file has over {_MOST_BYTES // 1_000_000} MB"
    return ""


def _licence_file(top: list[os.DirEntry[str]], source: Path) -> Path | None:
    for item in top:
        if item.name.upper().startswith(NAMES) and not _refusal(source, item):
            return Path(item.path)
    return None


def _checked(scan: _Scan, licence_file: Path | None) -> Layout:
    if scan.loose:
        scan.note("loose-file", f"outside any class folder and not read: {listed(scan.loose)}", scan.loose)
    folders = {split: tuple(sorted(labels)) for split, labels in scan.folders.items()}
    entries = tuple(sorted(scan.entries, key=lambda entry: entry.path))
    layout = Layout(scan.source, entries, folders, licence_file, tuple(scan.findings))
    if not layout.classes:
        refused = next((f.message for f in scan.findings if f.severity == "error"), "")
        raise DataError(f"{scan.source} has no class folders" + (f" ({refused})" if refused else ""), hint=_HINT)
    if not any(entry.label for entry in entries):
        raise DataError(f"{scan.source} has class folders but no files in them: {listed(layout.classes)}", hint=_HINT)
    return layout


def _trainable(layout: Layout) -> Layout:
    trained = layout.folders.get("train" if layout.has_splits else "", ())
    if not trained:
        raise DataError(f"{layout.source} has a test folder but nothing to train on", hint="Add train/CLASS/*.jpg.")
    for split, labels in sorted(layout.folders.items()):
        if unknown := sorted(set(labels) - set(trained)):
            raise DataError(
                f"{split} has classes that train lacks: {listed(unknown)}; train has {listed(trained)}",
                hint="Give each class a folder with images under train, or take its images out.",
            )
    if len(trained) < 2:
        raise DataError(
            f"{layout.source} has only one class, {trained[0]}; telling apart needs at least two",
            hint="Add a folder with images of another class.",
        )
    return layout
