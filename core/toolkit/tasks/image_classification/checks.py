"""Looking at every file of a data set once, and saying what is wrong with it.

`inspect_files` reads and decodes; the checks that follow are functions of what it saw. Nothing here decides what is
trained on or how rows are split.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.image_classification.fingerprints import Fingerprint, fingerprint, reduction_for
from toolkit.tasks.image_classification.images import NOT_AN_IMAGE, UnreadableImage, decode, stored_size, to_channels
from toolkit.tasks.image_classification.layout import Entry

IMBALANCE = 10
ODD_SIZE = 4
FRAME = 2  # an image this often larger than any labelled one is compared at a scale of its own

_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
_CHANNEL_NOISE = 12  # grey levels: what compression makes of equal channels
_HOW_READ = {
    "CMYK": "print colours (CMYK), converted to RGB",
    "I;16": "16 bits a pixel, scaled to 8 over the full range",
    "I;16B": "16 bits a pixel, scaled to 8 over the full range",
    "I": "16 bits a pixel, scaled to 8 over the full range",
    "P": "a palette, resolved to RGB; transparency laid on white",
    "PA": "a palette, resolved to RGB; transparency laid on white",
    "RGBA": "transparency, laid on white",
    "LA": "transparency, laid on white",
    "1": "black and white only, read as grey",
}


@dataclass(frozen=True)
class Inspected:
    """One file as it was found. Where `problem` is set the image is unusable and the fields after `sha256` are empty;
    `kind` then tells the sort of problem (see UnreadableImage, or `refused`, `unreadable`)."""

    entry: Entry
    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    grey: bool = True
    pixels: str = ""
    fingerprint: Fingerprint | None = None
    problem: str = ""
    kind: str = ""


def inspect_files(source: Path, entries: Sequence[Entry], *, fingerprints: bool) -> list[Inspected]:
    """Read, digest and decode each file once, holding one image at a time; what was seen comes in the order given.

    `fingerprints` asks for what `near_duplicates` needs besides: at one scale, except that of images without labels
    which are far larger than any labelled one. Kept at that scale, thousands of those would not fit in memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damage that then shows, or of oddities in EXIF
        reduction = _reduction(source, entries) if fingerprints else None
        seen = {entry.path: _inspect(source, entry, reduction) for entry in entries if entry.label}
        largest = max((max(file.width, file.height) for file in seen.values()), default=0)
        seen |= {entry.path: _inspect(source, entry, reduction, largest) for entry in entries if not entry.label}
    return [seen[entry.path] for entry in entries]


def _reduction(source: Path, entries: Sequence[Entry]) -> int:
    """The common factor, from the headers of some 60 labelled files spread over the folder: images without labels, be
    they ever so many, change nothing in how labelled ones are compared."""
    sides = []
    labelled = [entry for entry in entries if entry.label]
    for entry in labelled[:: max(1, len(labelled) // 60)]:
        size = None if entry.refused else stored_size(_head(source / entry.path))
        if size is not None:
            sides.append(max(size))
    return reduction_for(sides)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(1 << 20)
    except OSError:
        return b""  # `_inspect` tells why


def _inspect(source: Path, entry: Entry, reduction: int | None, largest: int | None = None) -> Inspected:
    if entry.refused:
        return Inspected(entry, problem=entry.refused, kind="refused")
    try:
        data = (source / entry.path).read_bytes()
    except OSError as error:
        return Inspected(entry, problem=f"it cannot be read: {error.strerror}", kind="unreadable")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode(data)
    except UnreadableImage as error:
        return Inspected(entry, sha256, problem=error.message, kind=error.kind)
    pixels = decoded.pixels
    height, width, _ = pixels.shape
    if reduction is not None and largest is not None and max(width, height) > FRAME * largest:
        reduction = max(reduction, reduction_for([max(width, height)]))
    return Inspected(
        entry,
        sha256,
        width,
        height,
        decoded.mode,
        grey=_is_grey(pixels),
        pixels=hashlib.blake2b(pixels.data, digest_size=16, key=f"{width}x{height}".encode()).hexdigest(),
        fingerprint=None if reduction is None else fingerprint(to_channels(pixels, 1)[:, :, 0], reduction=reduction),
    )


def _is_grey(pixels: np.ndarray) -> bool:
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return True
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return int(spread.max()) <= _CHANNEL_NOISE


def is_stray(file: Inspected) -> bool:
    """Whether a file is no image and does not claim to be one: notes, annotations. Such files are no rows."""
    return file.kind == NOT_AN_IMAGE and Path(file.entry.path).suffix.lower() not in _SUFFIXES


def check_files(files: Sequence[Inspected]) -> list[Finding]:
    """Findings about single files: unusable ones, each by itself; strays and odd pixel modes together."""
    found = [
        Finding(file.kind, "error", f"{file.entry.path}: {file.problem}", (file.entry.path,))
        for file in files
        if file.problem and not is_stray(file)
    ]
    if strays := [file.entry.path for file in files if is_stray(file)]:
        found.append(Finding("ignored-file", "note", f"not images and not read: {listed(strays)}", tuple(strays)))
    by_mode: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if not file.problem and file.mode not in ("L", "RGB"):
            by_mode[file.mode].append(file.entry.path)
    for mode, rows in sorted(by_mode.items()):
        how = _HOW_READ.get(mode, f"pixels of mode {mode}, converted to RGB")
        found.append(Finding("pixel-mode", "note", f"{_images(len(rows))} with {how}", tuple(rows)))
    return found


def check_sizes(files: Sequence[Inspected]) -> list[Finding]:
    """Images whose longest side is over 4 times the median one of labelled images, or under a quarter of it."""
    usable = [file for file in files if not file.problem]
    labelled = [max(file.width, file.height) for file in usable if file.entry.label]
    if not labelled:
        return []
    middle = float(np.median(labelled))
    odd = [f for f in usable if not middle / ODD_SIZE <= max(f.width, f.height) <= middle * ODD_SIZE]
    if not odd:
        return []
    shown = listed(f"{f.entry.path} ({f.width} x {f.height})" for f in odd)
    message = f"{_images(len(odd))} far from the usual {middle:.0f} pixels a side: {shown}"
    return [Finding("odd-size", "warning", message, tuple(f.entry.path for f in odd))]


def check_balance(counts: Mapping[str, int]) -> list[Finding]:
    """Classes that differ in number of images by more than a factor of 10."""
    rare, common = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
    if counts[common] <= IMBALANCE * counts[rare]:
        return []
    message = f"{common} has {counts[common]} images, {rare} only {counts[rare]}: accuracy alone will say little"
    return [Finding("imbalance", "warning", message)]


def same_pixels(files: Sequence[Inspected]) -> list[list[int]]:
    """Indices of usable files that show exactly the same pixels, by twos and more."""
    sets: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        if not file.problem:
            sets[file.pixels].append(index)
    return [members for members in sets.values() if len(members) > 1]


def check_copies(files: Sequence[Inspected], copies: Iterable[Sequence[int]]) -> list[Finding]:
    """The same image under two labels, one finding each; other copies together."""
    found, others = [], []
    for members in copies:
        entries = [files[index].entry for index in members]
        rows = tuple(entry.path for entry in entries)
        if labels := sorted({entry.label for entry in entries})[1:]:
            message = f"the same image under {len(labels) + 1} labels: {listed(rows)}"
            found.append(Finding("two-labels", "error", message, rows))
        else:
            others.append(rows)
    if others:
        message = f"{len(others)} images are there more than once: {listed(' = '.join(rows) for rows in others)}"
        found.append(Finding("copies", "warning", message, tuple(row for rows in others for row in rows)))
    return found


def check_groups(labels: Sequence[str], groups: Sequence[str], ids: Sequence[str]) -> list[Finding]:
    """Near-duplicates in general (a note), and those whose images carry different labels (a warning)."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    large = [indices for indices in members.values() if len(indices) > 1]
    found = []
    if large:
        rows = tuple(ids[index] for indices in large for index in indices)
        message = f"{len(rows)} images fall into {len(large)} groups of near-duplicates; each stays in one split"
        found.append(Finding("near-duplicates", "note", message, rows))
    if mixed := [indices for indices in large if len({labels[index] for index in indices}) > 1]:
        rows = tuple(ids[index] for indices in mixed for index in indices)
        kinds = Counter(" and ".join(sorted({labels[index] for index in indices})) for indices in mixed)
        message = f"{len(mixed)} groups of near-duplicates carry different labels: {listed(kinds)}"
        found.append(Finding("near-duplicate-labels", "warning", message, rows))
    return found


def check_leaks(leaks: Sequence[tuple[str, str, float]], splits: Mapping[str, str]) -> list[Finding]:
    """Near-duplicates across splits: `leaks` are (id, id, score), `splits` the split of each id."""
    if not leaks:
        return []
    rows = sorted({row for first, second, _ in leaks for row in (first, second)})
    tests = sum(splits[row] == "test" for row in rows)
    shown = listed(f"{first} ~ {second}" for first, second, _ in leaks)
    message = (
        f"{len(leaks)} pairs of near-duplicates lie across splits and touch {tests} test images, "
        f"so the score flatters: {shown}"
    )
    return [Finding("leak", "error", message, tuple(rows))]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
