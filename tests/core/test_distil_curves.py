"""What a training tells: to TensorBoard, step by step and once each, whatever was killed in between; to a terminal."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from distil_parts import Interrupted, assert_same, interrupt_at, train

from toolkit.cli.progress import ProgressReporter, sparkline
from toolkit.distil.curves import Curves, Watch

events = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, data, their checksum (tensorflow's tfrecord format)."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def drawn(folder: Path) -> Mapping[str, Mapping[int, list[float]]]:
    """By tag and step what TensorBoard draws: what a later file begins anew is dropped from earlier ones."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.iterdir()):
        for record in records(path):
            event = events.Event.FromString(record)
            if event.session_log.status == 1:  # START: whatever was told of this step and later is void
                for steps in found.values():
                    for step in [step for step in steps if step >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                found[value.tag][event.step].append(value.simple_value)
    return found


def test_every_step_and_epoch_is_in_the_files_and_nothing_changes(tmp_path: Path) -> None:
    with Curves(tmp_path / "curves") as curves:
        watched = train(tmp_path / "watched", watch=curves)
    assert_same(watched, train(tmp_path / "alone"))
    found = drawn(tmp_path / "curves")
    losses = [value for _, (value,) in sorted(found["step/loss"].items())]
    assert sorted(found["step/loss"]) == list(range(len(losses)))
    steps = len(losses) // len(watched.history)
    means = np.array(losses).reshape(-1, steps).mean(axis=1)
    np.testing.assert_allclose(means, [epoch["loss"] for epoch in watched.history], rtol=1e-5)
    told = found["epoch/validation_accuracy"]
    assert sorted(told) == [steps * number - 1 for number in range(1, len(watched.history) + 1)]
    assert {"step/gradient_norm", "step/learning_rate", "step/steps_per_second", "epoch/loss"} <= set(found)


@pytest.mark.usefixtures("every_step")
def test_a_run_that_is_taken_up_tells_no_step_twice(tmp_path: Path) -> None:
    with Curves(tmp_path / "whole") as curves:
        whole = train(tmp_path / "a", watch=curves)
    with pytest.raises(Interrupted), Curves(tmp_path / "broken") as curves:
        train(tmp_path / "b", interrupt_at(5), watch=curves)
    with Curves(tmp_path / "broken") as curves:
        assert_same(train(tmp_path / "b", watch=curves), whole)
    one, other = drawn(tmp_path / "whole"), drawn(tmp_path / "broken")
    assert one["step/loss"] == other["step/loss"]
    assert one["epoch/validation_loss"] == other["epoch/validation_loss"]


def test_a_terminal_is_told_the_last_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.cli.progress.PLAIN_SECONDS", 0.0)
    progress = ProgressReporter()
    assert isinstance(progress, Watch)
    progress("train", 0, 10)
    progress.step(0, {"loss": 1.25, "agreement": 0.5, "gradient_norm": 3.0, "hard-label": 9.0})
    progress.epoch(4, {"validation_accuracy": 0.25})
    progress.epoch(8, {"validation_accuracy": 0.75})
    progress.step(8, {"loss": 0.5, "agreement": 1.0})
    progress("train", 8, 10)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("; loss 0.5, agrees 100%, validation ▁█ 75.0%")
    progress("another", 0, 10)
    assert "loss" not in capsys.readouterr().err.splitlines()[-1], "figures of one work are not those of the next"


def test_sparklines_go_from_the_least_to_the_most() -> None:
    assert sparkline([0.0, 0.5, 1.0]) in ("▁▄█", "▁▅█")
    assert sparkline([0.3, 0.3]) == "▁▁"
