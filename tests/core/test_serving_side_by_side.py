"""Texts that a model writes side by side: each as if it were alone, whoever comes, goes or fails meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.errors import DataError, EnvironmentUnfit
from toolkit.serving import side_by_side
from toolkit.serving.drawing import Drawn, drawn_from
from toolkit.serving.language import LanguageSession
from toolkit.serving.refusals import ModelFault
from toolkit.serving.side_by_side import SideBySide, Text

NEVER = frozenset({23})
"""A token that the counter does not write: its texts run on to their most tokens."""

PROMPTS = ([3, 9, 10], [8], [3, 12, 13, 14, 15, 16, 17], [11, 9], [3, 8, 8, 9, 19])


@pytest.fixture(scope="module")
def sessions(counter_forms: dict[str, Any]) -> dict[str, LanguageSession]:
    return {
        name: LanguageSession(form.model, form.beside["genai_config.json"], stops=NEVER)
        for name, form in counter_forms.items()
    }


@pytest.fixture
def session(sessions: dict[str, LanguageSession]) -> LanguageSession:
    return sessions["fp32"]


def alone(session: LanguageSession, prompt: Sequence[int], how: Drawn) -> list[int]:
    return [token for _, token, _ in session.write([prompt], [how]) if token is not None]


def texts(told: Sequence[tuple[int, int | None, Any]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place, token, _ in told:
        found.setdefault(place, []).extend([] if token is None else [token])
    return found


def test_a_prompt_that_comes_late_is_begun_while_another_is_written_and_neither_is_changed(
    session: LanguageSession,
) -> None:
    late, seen = [(PROMPTS[1], Drawn(9))], list[tuple[int, int | None, Any]]()
    for one in session.write(
        PROMPTS[:1], [Drawn(30)], more=lambda free: [late.pop()] if late and len(seen) > 4 else ()
    ):
        seen.append(one)
    places = [place for place, _, _ in seen]
    begun, ended = places.index(1), len(places) - places[::-1].index(1)
    assert set(places[begun:ended]) == {0, 1}
    assert [place for place, _, end in seen if end] == [1, 0]
    assert texts(seen) == {0: alone(session, PROMPTS[0], Drawn(30)), 1: alone(session, PROMPTS[1], Drawn(9))}


@pytest.mark.parametrize("together", [1, 3, 16])
def test_rooms_rows_and_pieces_of_prompts_change_no_text(
    session: LanguageSession, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Prompts in pieces of two tokens, caches that grow with every longer text, and rows that move as texts end."""
    how = [Drawn(most) for most in (4, 30, 7, 1, 19)]
    expected = {place: alone(session, *pair) for place, pair in enumerate(zip(PROMPTS, how, strict=True))}
    monkeypatch.setattr(side_by_side, "CHUNK", 2)
    monkeypatch.setattr(side_by_side, "ROOMS", 1)
    told = list(session.write(PROMPTS, how, together=together))
    assert texts(told) == expected
    assert sorted(place for place, _, end in told if end == "length") == [0, 1, 2, 3, 4]


def test_of_who_has_gone_nothing_more_is_written_and_the_others_go_on(session: LanguageSession) -> None:
    seen: list[tuple[int, int | None, Any]] = []
    for one in session.write(PROMPTS[:3], [Drawn(12)] * 3, gone=lambda place: place == 0 and len(seen) > 10):
        seen.append(one)
    found = texts(seen)
    assert len(found[0]) < 12
    assert [found[place] for place in (1, 2)] == [alone(session, PROMPTS[place], Drawn(12)) for place in (1, 2)]


@pytest.mark.parametrize("form", ["fp32", "int4"])
def test_a_seed_gives_the_same_text_again_whoever_is_written_beside_it(
    sessions: dict[str, LanguageSession], form: str
) -> None:
    session, how = sessions[form], Drawn(40, temperature=2.0, top_p=0.9, seed=7)
    text = alone(session, PROMPTS[0], how)
    assert text == alone(session, PROMPTS[0], how)
    assert text != alone(session, PROMPTS[0], Drawn(40, temperature=2.0, top_p=0.9, seed=8))
    beside = session.write([*PROMPTS[1:4], PROMPTS[0]], [Drawn(50), Drawn(9), Drawn(30, 2.0, seed=None), how])
    assert texts(list(beside))[3] == text


def test_what_is_drawn_by_chance_differs(session: LanguageSession) -> None:
    drawn = Drawn(40, temperature=3.0, seed=None)
    assert alone(session, PROMPTS[0], drawn) != alone(session, PROMPTS[0], drawn)


def test_no_more_is_remembered_than_there_is_memory_for(session: LanguageSession) -> None:
    """Room for two texts of this length, though sixteen might be written together; and one that is too long for it by
    itself is written alone."""
    room = Text(0, PROMPTS[0], Drawn(20)).room
    texts = SideBySide(session._graph, NEVER, 16, lambda place: False, 2 * room * session._graph.bytes_a_token)
    for place in range(4):
        texts.add(Text(place, PROMPTS[0], Drawn(20)))
    most, seen = 0, list[int]()
    while not texts.idle:
        seen += [place for place, _, _ in texts.step()]
        most = max(most, len(texts._under_way()))
    assert most == 2
    assert sorted(set(seen)) == [0, 1, 2, 3]
    tight = SideBySide(session._graph, NEVER, 16, lambda place: False, 1)
    for place in range(2):
        tight.add(Text(place, PROMPTS[0], Drawn(3)))
    order = []
    while not tight.idle:
        order += [place for place, _, _ in tight.step()]
    assert order == sorted(order)


@dataclass
class Failing:
    """A constraint that cannot be followed after some tokens."""

    after: int

    def forced(self, ids: Sequence[int]) -> Sequence[int]:
        return ()

    def allowed(self, ids: Sequence[int], vocabulary: int) -> np.ndarray | None:
        if len(ids) == self.after:
            raise DataError("it cannot be followed")
        return None


@pytest.mark.parametrize("after", [0, 3])
def test_an_answer_whose_constraint_fails_ends_and_no_other(session: LanguageSession, after: int) -> None:
    told = list(session.write(PROMPTS[:2], [Drawn(8, constraint=Failing(after)), Drawn(8)]))
    ends = {place: end for place, _, end in told if end}
    assert isinstance(ends[0], DataError)
    assert ends[1] == "length"
    assert texts(told) == {0: alone(session, PROMPTS[0], Drawn(8))[:after], 1: alone(session, PROMPTS[1], Drawn(8))}


def test_a_late_prompt_without_room_for_its_answer_is_a_fault(session: LanguageSession) -> None:
    late: Iterator[Any] = iter([[([4] * 62, Drawn(3))]])
    with pytest.raises(ModelFault, match="a text of 62 tokens and an answer of 3 are more than the model's 64"):
        list(session.write(PROMPTS[:1], [Drawn(3)], more=lambda free: next(late, ())))


def test_a_model_that_cannot_go_on_in_place_is_refused_when_it_is_opened(
    counter_forms: dict[str, Any], tmp_path: Path
) -> None:
    form = counter_forms["fp32"]
    config = json.loads(form.beside["genai_config.json"])
    config["search"]["past_present_share_buffer"] = False
    with pytest.raises(EnvironmentUnfit, match="does not keep its keys and values in one place"):
        LanguageSession(form.model, json.dumps(config).encode(), stops=NEVER)


@pytest.mark.parametrize(
    ("top_p", "number", "token"),
    [(1.0, 0.0, 0), (1.0, 0.19, 0), (1.0, 0.21, 1), (1.0, 0.69, 1), (1.0, 0.71, 2), (1.0, 0.999, 3),
     (0.7, 0.66, 1), (0.7, 0.67, 2), (0.4, 0.99, 1), (0.81, 0.99, 0), (0.0, 0.99, 1)],
)  # fmt: skip
def test_a_token_is_drawn_from_its_nucleus(top_p: float, number: float, token: int) -> None:
    """Of probabilities of 0.2, 0.5, 0.25 and 0.05 the second alone has reached 0.4, with the third 0.7, with the first
    0.81."""
    logits = np.log(np.array([0.2, 0.5, 0.25, 0.05], np.float32))
    assert drawn_from(logits, 1.0, top_p, number) == token


def test_a_temperature_flattens_what_is_drawn_from() -> None:
    logits = np.log(np.array([0.9, 0.1], np.float32))
    assert drawn_from(logits, 1.0, 1.0, 0.85) == 0
    assert drawn_from(logits, 2.0, 1.0, 0.85) == 1  # 3 to 1
