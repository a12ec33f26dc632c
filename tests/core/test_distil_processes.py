"""Several processes end with the model of one: real processes, that talk by gloo."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from distil_parts import assert_same, one_thread
from process_parts import alone, norm_cases, together

from toolkit.distil.loop import Fitted
from toolkit.distil.processes import ALONE, Processes
from toolkit.errors import EnvironmentUnfit

CLOSE = 1e-5
"""Of weights about 1, after twenty steps: sums of float32 in another order. Seen: 3e-7."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Any]]:
    jobs = ("rows", "rows-auto", "pictures", "doubles", "language", "weighed-language", "norms")
    return together(tmp_path_factory.mktemp("two"), 2, *jobs)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Any]]:
    """More than a step has parts, or a batch rows."""
    return together(tmp_path_factory.mktemp("three"), 3, "few-pictures", "language", "norms")


@pytest.mark.parametrize("job", ["rows", "pictures", "language", "weighed-language"])
def test_two_processes_end_with_the_weights_of_one(
    job: str, two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    assert_close(two[job][0], alone(tmp_path, job))


def test_what_parts_several_processes_from_one_is_rounding_alone(
    two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    """In float32 such a student ends 4% apart, as it does on one process with two threads (e2e/test_torchrun.py):
    rounding moves activations over a rectifier's edge. In doubles it does not: any other difference would be seen."""
    one, found = alone(tmp_path, "doubles").weights, two["doubles"][0].weights
    apart = sum(float((found[name] - weight).square().sum()) for name, weight in one.items())
    assert (apart / sum(float(weight.square().sum()) for weight in one.values())) ** 0.5 < 1e-11


@pytest.mark.parametrize("job", ["few-pictures", "language"])
def test_a_process_with_nothing_to_do_changes_nothing(
    job: str, three: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    assert_close(three[job][0], alone(tmp_path, job))


@pytest.mark.parametrize("job", ["rows", "rows-auto", "pictures", "language", "weighed-language"])
def test_all_processes_hold_the_same(job: str, two: Mapping[str, Sequence[Fitted]]) -> None:
    first, second = two[job]
    assert_same(first, second)
    assert first.precision == second.precision


def test_a_format_that_is_measured_is_chosen_by_the_first(two: Mapping[str, Sequence[Fitted]]) -> None:
    first, second = (fitted.precision.trials for fitted in two["rows-auto"])
    assert len(first) >= 1
    assert [trial.step_ms for trial in first] == [trial.step_ms for trial in second]


@pytest.mark.parametrize("job", ["rows", "language", "weighed-language"])
def test_processes_that_die_are_taken_up_by_the_next_bit_for_bit(
    job: str, two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    for step in (3, 7):  # in the middle of an epoch
        together(tmp_path, 2, f"{job}@{step}", codes=(9, 9))
    assert (tmp_path / f"2-{job}" / "checkpoint.pt").exists()
    found = together(tmp_path, 2, job)
    assert_same(found[job][0], two[job][0])


def test_one_process_takes_up_what_two_began(two: Mapping[str, Sequence[Fitted]], tmp_path: Path) -> None:
    together(tmp_path, 2, "rows@7", codes=(9, 9))
    shutil.copytree(tmp_path / "2-rows", tmp_path / "alone-rows")
    assert_close(alone(tmp_path, "rows"), two["rows"][0])


@pytest.mark.parametrize(("job", "codes"), [("lost", (5, 9)), ("apart", (5, 5))])
def test_processes_that_cannot_go_on_together_say_so(job: str, codes: tuple[int, int], tmp_path: Path) -> None:
    assert EnvironmentUnfit.exit_code == 5
    together(tmp_path, 2, job, codes=codes)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", range(len(norm_cases())), ids=[name for name, _, _ in norm_cases()])
def test_batch_norm_over_processes_is_torchs_over_the_whole_batch(
    size: int, case: int, two: Mapping[str, Sequence[Any]], three: Mapping[str, Sequence[Any]]
) -> None:
    name, norm, inputs = norm_cases()[case]
    inputs.requires_grad_()
    said = norm(inputs)
    said.square().mul(torch.arange(said.numel()).view_as(said)).sum().backward()
    found = [process[name] for process in (two if size == 2 else three)["norms"]]
    for_inputs = torch.cat([process["gradients"][0] for process in found])
    torch.testing.assert_close(for_inputs, inputs.grad)
    for number, parameter in enumerate(norm.parameters(), 1):
        torch.testing.assert_close(sum(process["gradients"][number] for process in found), parameter.grad)
    for process in found:
        torch.testing.assert_close(process["said"], said.detach())
        for buffer, value in norm.named_buffers():
            torch.testing.assert_close(process["buffers"][buffer], value)


def test_one_alone_has_it_all() -> None:
    assert ALONE.mine([1, 2, 3]) == [1, 2, 3]
    assert ALONE.rows(7) == slice(0, 7)
    assert ALONE.seed(5) == 5
    assert ALONE.norms([3.0]) == [3.0]
    assert ALONE.summed({"a": 1.0}) == {"a": 1.0}


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_everything_is_shared_out_once_and_evenly(size: int, count: int) -> None:
    crew = [Processes(rank, size) for rank in range(size)]
    items = list(range(count))
    assert [item for each in crew for item in items[each.rows(count)]] == items
    assert sorted(item for each in crew for item in each.mine(items)) == items
    for shares in ([len(items[each.rows(count)]) for each in crew], [len(each.mine(items)) for each in crew]):
        assert max(shares) - min(shares) <= 1
    assert len({each.seed(3) % 2**32 for each in crew}) == size


def assert_close(found: Fitted, one: Fitted) -> None:
    assert found.weights.keys() == one.weights.keys()
    for name, weight in one.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=CLOSE, atol=CLOSE)
    assert (found.epoch, found.score.rows, found.score.accuracy) == (one.epoch, one.score.rows, one.score.accuracy)
    for record, wanted in zip(found.history, one.history, strict=True):
        assert record == pytest.approx(wanted, rel=1e-4, abs=1e-6)
