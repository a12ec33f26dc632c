"""Completions while they come: what has come is kept, and who needs a row waits for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from toolkit.errors import DataError
from toolkit.tasks.text_generation.completions import GIVEN, Unit
from toolkit.tasks.text_generation.tokens import Tokenised, Tokenizer, encoded


class Coming:
    """The units of a label store that may still be filling. One thread reads it.

    Args:
        units: in their order; what comes is asked for as it is needed.
        of: how many of each split there will be.
        tokenizer, max_tokens: as `tokens.tokenise` takes them; what does not fit is left out.
    """

    def __init__(self, units: Iterable[Unit], of: Mapping[str, int], tokenizer: Tokenizer, max_tokens: int) -> None:
        self._units, self._of, self._tokenizer, self._max_tokens = iter(units), of, tokenizer, max_tokens
        self._came: dict[str, list[Sequence[Tokenised]]] = defaultdict(list)
        self.left_out = 0

    def split(self, name: str) -> Split:
        """Its rows, by number."""
        return Split(self, name)

    def size(self, split: str) -> int:
        return self._of.get(split, 0)

    def unit(self, split: str, index: int) -> Sequence[Tokenised]:
        """The samples of a row, as soon as they are there."""
        while len(self._came[split]) <= index:
            self._take(next(self._units))
        return self._came[split][index]

    def all(self, split: str) -> Sequence[Tokenised]:
        """Every sample of a split, once all have come.

        Raises:
            DataError: there is none.
        """
        found = [sample for row in self.split(split) for sample in row]
        if not found:
            raise DataError(
                f"no {split} row is left: {self.left_out:,} have more than {self._max_tokens:,} tokens or spell a "
                "special token of the tokenizer",
                hint="Raise text.max_tokens.",
            )
        return found

    def _take(self, unit: Unit) -> None:
        by = {learnt.row.id: learnt.by for learnt in unit.learnt}
        rows = [learnt.row for learnt in unit.learnt]
        fitting = encoded(rows, self._tokenizer, max_tokens=self._max_tokens).samples
        samples = [replace(sample, said=by[sample.id] != GIVEN) for sample in fitting]
        self.left_out += len(rows) - len(samples)
        self._came[unit.split].append(samples)


class Split:
    """The rows of a split (`packing.Units`)."""

    def __init__(self, coming: Coming, name: str) -> None:
        self._coming, self._name = coming, name

    def __len__(self) -> int:
        return self._coming.size(self._name)

    def __getitem__(self, index: int) -> Sequence[Tokenised]:
        return self._coming.unit(self._name, index)

    def __iter__(self) -> Iterator[Sequence[Tokenised]]:
        return (self[index] for index in range(len(self)))
