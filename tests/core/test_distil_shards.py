"""A student of which no process holds all ends as one that each holds whole: real processes, that talk by gloo."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from distil_parts import assert_same, one_thread
from process_parts import CPU, alone, rows, together
from test_distil_processes import assert_close
from torch import nn

from toolkit.distil.holding import Trained
from toolkit.distil.learner import Learner
from toolkit.distil.loop import Fitted
from toolkit.distil.processes import Processes
from toolkit.distil.shards import Sharded
from toolkit.errors import EnvironmentUnfit, PlanError


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


PAIRS = {
    "sharded-rows": "rows",
    "sharded-pictures": "pictures",
    "sharded-language": "language",
    "sharded-checkpointing": "language",
    "sharded-adapters": "adapters",
    "sharded-fp8": "fp8",
    "sharded-bf16": "bf16",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Any]]:
    return together(tmp_path_factory.mktemp("two"), 2, *PAIRS, "memory", "sharded-memory")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Any]]:
    """More than a step has parts, a batch rows, or some tensors rows."""
    return together(tmp_path_factory.mktemp("three"), 3, "sharded-few-pictures", "sharded-language")


@pytest.mark.parametrize("job", [job for job in PAIRS if job not in ("sharded-fp8", "sharded-bf16")])
def test_two_processes_with_half_each_end_with_the_weights_of_one(
    job: str, two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    """The norm of the gradient, by which it is clipped, is in the history that is compared."""
    assert_close(two[job][0], alone(tmp_path, PAIRS[job]))


@pytest.mark.parametrize("job", ["sharded-fp8", "sharded-bf16"])
def test_a_format_that_rounds_is_as_near_as_its_rounding(
    job: str, two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    found, wanted = two[job][0], alone(tmp_path, PAIRS[job])
    assert found.precision == wanted.precision
    assert [one["loss"] for one in found.history] == pytest.approx([one["loss"] for one in wanted.history], rel=0.01)


@pytest.mark.parametrize("job", ["few-pictures", "language"])
def test_a_process_with_nothing_to_do_changes_nothing(
    job: str, three: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    assert_close(three[f"sharded-{job}"][0], alone(tmp_path, job))


@pytest.mark.parametrize("job", PAIRS)
def test_the_first_process_alone_is_given_weights(job: str, two: Mapping[str, Sequence[Fitted]]) -> None:
    first, second = two[job]
    assert first.weights
    assert not second.weights
    assert (first.history, first.held) == (second.history, second.held)


def test_a_process_holds_half_of_weights_average_and_optimiser(two: Mapping[str, Sequence[tuple[int, int]]]) -> None:
    """Four numbers of four bytes a weight: the weight, its average, and AdamW's two; and beside them there is its
    gradient and no other tensor alive, so none is whole anywhere. Three rows are two and one, and padded."""
    weights = 512 * 512 + 512 * 6 + 512 + 512 + 512 * 3 + 3
    for (kept, alive), share in [(one, 1) for one in two["memory"]] + [(one, 2) for one in two["sharded-memory"]]:
        assert kept == pytest.approx(16 * weights / share, rel=0.005)
        assert alive == pytest.approx(20 * weights / share, rel=0.01)


@pytest.mark.parametrize("job", ["sharded-rows", "sharded-language"])
def test_processes_that_die_are_taken_up_by_the_next_bit_for_bit(
    job: str, two: Mapping[str, Sequence[Fitted]], tmp_path: Path
) -> None:
    for step in (3, 7):
        together(tmp_path, 2, f"{job}@{step}", codes=(9, 9))
    assert (tmp_path / f"2-{job}" / "checkpoint.pt").exists()
    assert_same(together(tmp_path, 2, job)[job][0], two[job][0])


@pytest.mark.parametrize("job", ["rows", "pictures", "language"])
def test_one_process_takes_up_what_two_began_and_the_other_way_round(job: str, tmp_path: Path) -> None:
    wanted = alone(tmp_path / "whole", job)
    together(tmp_path, 2, f"sharded-{job}@7", codes=(9, 9))
    shutil.copytree(tmp_path / f"2-sharded-{job}", tmp_path / f"alone-{job}")
    assert_close(alone(tmp_path, job), wanted)
    together(tmp_path, 2, f"{job}@7", codes=(9, 9))
    shutil.rmtree(tmp_path / f"2-sharded-{job}")
    shutil.copytree(tmp_path / f"2-{job}", tmp_path / f"2-sharded-{job}")
    assert_close(together(tmp_path, 2, f"sharded-{job}")[f"sharded-{job}"][0], wanted)


def test_the_others_say_that_they_lost_touch(tmp_path: Path) -> None:
    together(tmp_path, 2, "sharded-lost", codes=(EnvironmentUnfit.exit_code, 9))


def test_a_weight_without_a_dimension_is_refused() -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 3)
            self.scale = nn.Parameter(torch.tensor(1.0))

    with pytest.raises(PlanError, match=r"weight scale is a single number") as caught:
        Sharded(Processes(0, 2), CPU).take(Trained(Learner(Scaled()), []))
    assert "compute.sharding=none" in caught.value.hint


def test_a_format_cannot_be_found_on_copies(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="auto"):
        rows(tmp_path, Processes(), lambda _: None, precision="auto", shard_on=CPU)
