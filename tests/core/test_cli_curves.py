"""Curves in a terminal: what is kept of them, how they are drawn, and that they fit."""

from __future__ import annotations

import io
import re
from statistics import fmean

import pytest
from rich.cells import cell_len
from rich.console import Console

from toolkit.cli import progress as progress_module
from toolkit.cli.curves import CELLS, RECENT, WIDTH, Curves, Trail, sparkline
from toolkit.cli.progress import ProgressReporter

STEP = {
    "loss": 0.8, "gradient_norm": 1.25, "rows": 64.0, "rows_per_second": 612.4, "learning_rate": 0.001,
    "agreement": 0.75, "hard-label": 0.5, "response": 1.5, "objective_weight/hard-label": 0.4,
    "objective_weight/response": 0.6, "pull/hard-label": 0.25, "pull/response": 0.75,
}  # fmt: skip
EPOCH = {"validation_accuracy": 0.934, "validation_loss": 0.31, "epoch": 3.0}
QUEUE = {
    "queue/depth": 12.0, "queue/done": 750.0, "queue/total": 1000.0, "queue/per_second": 9.0,
    "queue/labelling_waited_s": 0.3, "queue/training_waited_s": 41.6,
}  # fmt: skip


def drawn(curves: Curves, width: int = 80, encoding: str = "utf-8") -> list[str]:
    """The lines on a screen that wide."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(curves)
    screen.seek(0)
    return screen.read().splitlines()


def test_a_short_curve_is_all_there_and_a_long_one_in_means() -> None:
    trail = Trail()
    for value in range(10):
        trail.add(value)
    assert trail.shape() == list(range(10))
    for value in range(10, 4 * CELLS):
        trail.add(value)
    assert trail.now == pytest.approx(4 * CELLS - 1 - (RECENT - 1) / 2)
    shape = trail.shape(8)
    eighth = 4 * CELLS // 8
    assert shape == pytest.approx([fmean(range(k * eighth, (k + 1) * eighth)) for k in range(8)], rel=0.02)
    assert len(trail.shape()) == WIDTH


@pytest.mark.parametrize("many", [1, 2, WIDTH - 1, WIDTH + 1, CELLS - 1, CELLS, CELLS + 1, 10_001])
def test_a_curve_of_any_length_is_no_wider_than_asked_and_keeps_its_order(many: int) -> None:
    trail = Trail()
    for value in range(many):
        trail.add(value)
    shape = trail.shape()
    assert len(shape) == min(many, WIDTH)
    assert shape == sorted(set(shape))


def test_a_line_of_letters_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6]) == "▁▂▃▄▅▆▇"
    assert sparkline([10, 0, 5]) == "▇▁▄"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([]) == ""


def test_what_a_training_told_is_drawn() -> None:
    curves = Curves()
    for loss in (2.0, 1.0, 0.0):
        curves.tell(STEP | QUEUE | {"loss": loss})
    curves.tell(EPOCH)
    lines = [re.split(r"  +", line.strip()) for line in drawn(curves)]
    assert lines == [
        ["loss", "1.000", "▇▄▁", "gradient 1.250, 612 rows/s"],
        ["validation", "93.4%", "▁", "epoch 3, loss 0.310"],
        ["agreement", "75.0%", "▁▁▁", "with the teacher"],
        ["hard-label", "0.500", "▁▁▁", "weight 0.4, pull 25%"],
        ["response", "1.500", "▁▁▁", "weight 0.6, pull 75%"],
        ["labels", "75%", "━" * 18, "750 of 1,000, 12 waiting"],
        ["held up", "training 42 s, labelling 0 s"],
    ]


def test_of_labels_alone_nothing_is_said_of_objectives_or_a_teacher() -> None:
    curves = Curves()
    curves.tell({"loss": 0.5, "hard-label": 0.5, "objective_weight/hard-label": 1.0, "tokens_per_second": 4000.0,
                 "rows_per_second": 8.0})  # fmt: skip
    assert [re.split(r"  +", line.strip()) for line in drawn(curves)] == [["loss", "0.500", "▁", "4,000 tokens/s"]]
    assert drawn(Curves()) == []


@pytest.mark.parametrize("width", [30, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_and_no_line_wraps(width: int, encoding: str) -> None:
    curves = Curves()
    names = ("hard-label", "response", "feature", "feature-distance", "similarity", "relation-distance",
             "relation-angle")  # fmt: skip
    figures = {f"{prefix}{name}": 0.123456 for name in names for prefix in ("", "objective_weight/", "pull/")}
    for value in range(100):
        curves.tell(STEP | QUEUE | figures | {"loss": value * 1234.5, "gradient_norm": 1e-9})
    curves.tell(EPOCH)
    lines = drawn(curves, width, encoding)
    assert len(lines) == 3 + 7 + 2
    assert max(cell_len(line) for line in lines) <= width
    assert all(name in "".join(lines) for name in names)
    assert any("▇" in line for line in lines) == (width >= 80 and encoding == "utf-8")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_curves_of_one_training_go_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    def latest() -> str:
        screen.truncate(0)
        assert told._progress is not None
        told._progress.refresh()
        return screen.getvalue()

    with ProgressReporter() as told:
        told("train the student", 1, 9)
        told.figures("train the student", STEP)
        assert "agreement" in latest()
        told("train the student", 2, 9)
        assert "agreement" in latest()
        told("train the baseline", 0, 9)
        assert "agreement" not in latest()
        told.figures("train the baseline", {"loss": 0.25})
        assert "0.250" in latest()
        told.clear()
        assert "0.250" not in latest()


def test_a_plain_line_ends_with_the_figures_that_tell_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    with ProgressReporter() as told:
        for done in range(60):
            clock.now += 1
            told("train the student", done, 600)
            told.figures("train the student", STEP | QUEUE)
            if done == 5:
                told.figures("train the student", EPOCH)
        told("score the student", 0, 10)
        clock.now += 61
        told("score the student", 1, 10)
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"train the student: 6 of 600 \(1\.0/s, about 594 s left\); loss 0\.800, validation 93\.4%, agreement 75\.0%, "
        r"612 rows/s, 750 of 1,000 labelled, 12 waiting",
        first,
    ), first
    assert last.startswith("score the student: 1 of 10")
    assert "loss" not in last
