"""Answers to problems: put as a server puts them, read without what ends them, checked as they were said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from solving_parts import HELD_OUT, PROBLEMS, check, new_student, solver_of
from transformers import PreTrainedModel

from toolkit.tasks.text_generation.sampling import write
from toolkit.tasks.text_generation.solving import Solver
from toolkit.tasks.text_generation.tokens import prompt_ids
from toolkit.text import Prompt, Verdict

STOP, MOST = 0, 4


@pytest.fixture(scope="module")
def solver(tmp_path_factory: pytest.TempPathFactory) -> Solver:
    return solver_of(tmp_path_factory.mktemp("teacher"), most=MOST)


@pytest.fixture(scope="module")
def student() -> PreTrainedModel:
    """Random, sure of something, and surest of when to end."""
    model = new_student(4)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
        model.lm_head.weight[STOP].mul_(3)
    return model


def test_each_problem_is_answered_so_often_and_each_answer_checked_as_it_was_said(
    solver: Solver, student: PreTrainedModel
) -> None:
    asked: list[tuple[Prompt, str]] = []

    def verify(prompt: Prompt, said: str) -> Verdict:
        asked.append((prompt, said))
        return Verdict(0.25 * (len(said) % 5), "length")

    found = replace(solver, verify=verify).attempts(student, PROBLEMS, each=6, seed=3)
    prompts = [prompt_ids(problem.messages, solver.tokenizer) for problem in PROBLEMS for _ in range(6)]
    texts = write(student, prompts, solver.drawing, stops={STOP}, seed=3)
    flat = [attempt for attempts in found for attempt in attempts]
    assert [len(attempts) for attempts in found] == [6] * len(PROBLEMS)
    assert [one.sample.ids for one in flat] == [(*prompt, *text) for prompt, text in zip(prompts, texts, strict=True)]
    assert [one.sample.prompt for one in flat] == [len(prompt) for prompt in prompts]
    ended = [one for one in flat if one.ended]
    assert 0 < len(ended) < len(flat)
    assert all(one.sample.ids[-1] == STOP for one in ended)
    names = solver.tokenizer.convert_ids_to_tokens(list(range(16)))  # type: ignore[attr-defined]
    for one, (prompt, said) in zip(ended, asked, strict=True):  # what was cut off is not even asked about
        words = [names[token] for token in one.sample.ids[one.sample.prompt :] if 2 <= token < 16]
        assert one.text.split() == said.split() == words
        assert prompt.id == one.sample.id
        assert one.score == 0.25 * (len(said) % 5)
        assert one.right == (one.score == 1)
    assert all(one.score == 0 for one in flat if not one.ended)


def test_a_student_is_scored_by_its_likeliest_answers(solver: Solver, student: PreTrainedModel) -> None:
    problems, said, ended = (*PROBLEMS, *HELD_OUT), {}, []
    for problem in problems:
        ids = list(prompt_ids(problem.messages, solver.tokenizer))
        prompt = len(ids)
        while len(ids) < prompt + MOST and ids[-1] != STOP:
            with torch.no_grad():
                ids.append(int(student(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        said[problem.id] = solver.tokenizer.decode(ids[prompt:], skip_special_tokens=True).strip()
        ended.append(ids[-1] == STOP)
    assert sum(ended) > 4

    def verify(prompt: Prompt, text: str) -> Verdict:
        assert text == said[prompt.id]
        return Verdict(float(prompt.id[1] in "0245"), "the number of the problem")

    whole = replace(solver, verify=verify)
    expected = [end and problem.id[1] in "0245" for end, problem in zip(ended, problems, strict=True)]
    np.testing.assert_array_equal(whole.right(student, problems), expected)
    score = whole.validator(problems)(student)
    assert (score.accuracy, score.loss, score.rows) == pytest.approx((np.mean(expected), 1 - np.mean(expected), 16))


def test_no_problem_is_no_answer(solver: Solver, student: PreTrainedModel) -> None:
    assert solver.attempts(student, [], each=3, seed=0) == []
    assert check(PROBLEMS[1], "three four").score == 1
    assert check(PROBLEMS[1], "four").score == 0
