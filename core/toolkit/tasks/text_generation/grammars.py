"""Answers that keep to a grammar: a JSON schema, a regular expression or a Lark grammar. By llguidance.

Knows tokens and what of them may come next. That an answer keeps to its grammar does not make it complete: one that is
cut off at its most tokens is not.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np

from toolkit.errors import DataError, Unsupported
from toolkit.tasks.text_generation.tokens import Tokenizer
from toolkit.text import Grammar

MOST_CHARACTERS = 65_536
COMPACT = {"whitespace_flexible": False}
"""One way to write white space, or a small model may write nothing else."""


class Following:
    """What may come next in one answer.

    Args:
        stops: the tokens that may end it, once it is whole.

    Raises:
        DataError: the grammar is none. Unsupported: llguidance is not installed, or cannot read this tokenizer.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, stops: frozenset[int]) -> None:
        self._matcher: Any = _begun(grammar, cast(Any, tokenizer), stops).deep_copy()
        self._read = 0

    def allowed(self, ids: Sequence[int], vocabulary: int) -> np.ndarray:
        """Which tokens of a head, padded or cut as it may be, may follow those of the answer so far: bool [vocabulary].

        Raises:
            DataError: the grammar is too large to be followed.
        """
        self._matcher.consume_tokens(list(ids[self._read :]))
        self._read = len(ids)
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            why = _short(self._matcher.get_error())
            raise DataError(f"the grammar cannot be followed: {why}", hint="Simplify it.")
        known = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool)
        return np.pad(known, (0, vocabulary - len(known)))


@lru_cache(maxsize=16)
def _begun(grammar: Grammar, tokenizer: Any, stops: frozenset[int]) -> Any:
    """What stands at the beginning of every answer: a request is checked and written by one, and so are the next."""
    found = _llguidance().LLMatcher(_tokens(tokenizer, stops), _rules(grammar), log_level=0)
    if found.is_error():
        raise _wrong(found.get_error())
    return found


def _rules(grammar: Grammar) -> str:
    matcher = _llguidance().LLMatcher
    if len(grammar.rules) > MOST_CHARACTERS:
        raise DataError(f"a grammar of over {MOST_CHARACTERS:,} characters", hint="Simplify it.")
    if grammar.kind == "json_schema":
        try:
            return str(matcher.grammar_from_json_schema(json.loads(grammar.rules), overrides=COMPACT))
        except (ValueError, RecursionError) as error:
            raise _wrong(str(error)) from error
    return str(matcher.grammar_from_regex(grammar.rules) if grammar.kind == "regex" else grammar.rules)


def _wrong(error: str) -> DataError:
    return DataError(f"the grammar is none: {_short(error)}", hint="Mend the schema or the expression.")


def _short(error: str) -> str:
    return error.strip().partition("\n")[0][:200]


@lru_cache(maxsize=4)
def _tokens(tokenizer: Any, stops: frozenset[int]) -> Any:
    try:
        return _llguidance().LLTokenizer(tokenizer.backend_tokenizer.to_str(), eos_token=sorted(stops))
    except (AttributeError, ValueError, RuntimeError) as error:
        why = _short(str(error))
        raise Unsupported(f"this model's tokens follow no grammar: {why}", hint="Ask without one.") from error


def _llguidance() -> Any:
    if importlib.util.find_spec("llguidance") is None:
        raise Unsupported(
            "a grammar is not understood here: llguidance is not installed",
            hint="pip install 'distil-toolkit[language]', or ask without one.",
        )
    return importlib.import_module("llguidance")
