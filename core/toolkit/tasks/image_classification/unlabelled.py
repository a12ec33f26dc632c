"""Which images without labels may be trained on, beside rows whose splits are settled.

An image that shows what a validation or test row shows is left out, directly or by way of others without labels: the
student would learn from the very pictures that it is scored on. Splits are never chosen by what has no label, so that
the same rows are tested with such images and without.

Knows inspected files and pairs of them; nothing of folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.tasks.findings import Finding, listed
from toolkit.tasks.image_classification import checks
from toolkit.tasks.image_classification.checks import Inspected
from toolkit.tasks.image_classification.duplicates import group_near_duplicates, near_duplicates_of_new

_HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Joined:
    """`files` are the labelled ones and then those without labels that were kept; `groups` are theirs, each named by
    its first row, and none with an image without a label holds a validation or test row."""

    files: tuple[Inspected, ...]
    groups: tuple[str, ...]
    findings: tuple[Finding, ...]


def join_unlabelled(
    labelled: Sequence[Inspected],
    unlabelled: Sequence[Inspected],
    *,
    pairs: Sequence[tuple[int, int]],
    split_of: Mapping[str, str],
) -> Joined:
    """Add the images without labels to the labelled ones.

    Args:
        labelled, unlabelled: usable files, with fingerprints.
        pairs: indices of labelled files that show the same.
        split_of: the split of each labelled file, by path.
    """
    files = [*labelled, *unlabelled]
    held = [split_of[file.entry.path] in _HELD_OUT for file in labelled]
    links = [*pairs, *_links(files, held)]
    group = group_near_duplicates(len(files), links)
    sealed = {group[index] for index, is_held in enumerate(held) if is_held}
    trained = {file.pixels for file in labelled}
    new = range(len(labelled), len(files))
    leaked = {index for index in new if group[index] in sealed}
    copied = {index for index in new if files[index].pixels in trained} - leaked
    kept = [*range(len(labelled)), *(index for index in new if index not in leaked | copied)]
    of_kept = group_near_duplicates(len(files), [link for link in links if leaked.isdisjoint(link)])
    without_label = [files[index] for index in kept[len(labelled) :]]
    findings = [
        *_left_out(files, leaked, copied),
        *checks.check_copies(without_label, checks.same_pixels(without_label)),
    ]
    return Joined(
        tuple(files[index] for index in kept),
        tuple(files[of_kept[index]].entry.path for index in kept),
        tuple(findings),
    )


def _links(files: Sequence[Inspected], held: Sequence[bool]) -> list[tuple[int, int]]:
    """Pairs with an image without a label that show the same. Of copies, only the first is compared with others."""
    links, spare = [], set()
    for members in checks.same_pixels(files):
        links += [(members[0], other) for other in members[1:]]
        spare.update(members[1:])
    compared = [index for index in range(len(files)) if index not in spare]
    known = sum(index < len(held) for index in compared)
    prints = [taken for index in compared if (taken := files[index].fingerprint) is not None]  # all have one
    for match in near_duplicates_of_new(prints[:known], prints[known:], [held[index] for index in compared[:known]]):
        links.append((compared[match.first], compared[match.second]))
    return links


def _left_out(files: Sequence[Inspected], leaked: set[int], copied: set[int]) -> list[Finding]:
    found = []
    if leaked:
        rows = tuple(files[index].entry.path for index in sorted(leaked))
        message = (
            f"{len(rows)} images without labels show what validation or test images show, and were left out, lest the "
            f"score flatter: {listed(rows)}"
        )
        found.append(Finding("unlabelled-leak", "warning", message, rows))
    if copied:
        rows = tuple(files[index].entry.path for index in sorted(copied))
        message = f"{len(rows)} images without labels are copies of training images, and were left out: {listed(rows)}"
        found.append(Finding("unlabelled-copy", "note", message, rows))
    return found
