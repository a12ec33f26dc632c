"""Number formats of training: exact on resume, as good as float32, shipped as float32, and the probe that picks one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from distil_parts import (
    CLASSES,
    EPOCHS,
    EVERYTHING,
    FEATURES,
    OBJECTIVES,
    STEPS,
    TASKS,
    WIDTH,
    Interrupted,
    TinyBatches,
    assert_same,
    held_out,
    one_thread,
    validate,
)
from line_parts import small_lot, tiny_context
from pydantic import ValidationError
from torch import nn

from toolkit.artifacts import Facts
from toolkit.compile.export import export_network
from toolkit.distil.checkpoints import Checkpoints
from toolkit.distil.learner import Learner
from toolkit.distil.lessons import BatchLesson
from toolkit.distil.loop import Fitted, Schedule, fit
from toolkit.distil.precision import Name, Precision, Rehearse, Wanted, choose, has_bfloat16, probe
from toolkit.distil.weighting import TaskWeights, Weighting
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.pipeline import run_line
from toolkit.plan import ComputePlan
from toolkit.stages.distil import STAGE as DISTIL
from toolkit.stages.label import STAGE as LABEL

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def wide_module(seed: int = 0) -> nn.Sequential:
    """A layer that sums over too little for eight bits, one that does not, and a head."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 24), nn.ReLU(),
        nn.Linear(24, CLASSES),
    )  # fmt: skip


def train(
    folder: Path, precision: Wanted | Precision, before: Callable[[int], None] = lambda _: None,
    epochs: int = EPOCHS, *, module: nn.Module | None = None, rate: float = 0.02,
) -> Fitted:  # fmt: skip
    """With all that has a state: weights of samples and tasks, a projection, dropout, batch norm."""
    learner = Learner(module or wide_module(), width=WIDTH)
    weighting = Weighting(difficulty=True, tasks=TaskWeights(TASKS, by="loss-ratio", floor=0.3))
    lesson = BatchLesson(TinyBatches(before=before, everything=True), EVERYTHING, weighting)
    return fit(
        learner, lesson, Schedule(epochs, rate, 0.01, seed=7),
        groups=[{"params": learner.parameters()}], validate=validate, folder=folder, report=lambda *_: None,
        precision=precision,
    )  # fmt: skip


def stop_at(step: int, of: int = 0) -> Callable[[int], None]:
    """The first `of` batches that are asked for are the probe's."""
    asked = itertools.count()

    def before(reached: int) -> None:
        if next(asked) >= of and reached == step:
            raise Interrupted

    return before


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_interrupted_anywhere_it_ends_the_same(tmp_path: Path, precision: Wanted) -> None:
    whole = train(tmp_path / "whole", precision)
    assert whole.precision.name == precision
    for step in (0, 1, 7, 10, EPOCHS * STEPS - 1):
        with pytest.raises(Interrupted):
            train(tmp_path / "broken", precision, stop_at(step))
    assert_same(train(tmp_path / "broken", precision), whole)


@pytest.mark.usefixtures("every_step")
def test_a_training_goes_on_in_the_precision_it_began_with(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "bf16")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", "bf16", stop_at(9))
    resumed = train(tmp_path / "broken", "fp32")
    assert_same(resumed, whole)
    assert resumed.precision == whole.precision


@pytest.mark.usefixtures("every_step")
def test_a_resumed_training_does_not_probe_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, "auto", stop_at(9, of=STEPS))
    saved = Checkpoints(tmp_path).load()
    assert saved is not None
    asked: list[int] = []
    fitted = train(tmp_path, "auto", asked.append)
    assert asked == list(range(9, EPOCHS * STEPS))
    assert fitted.precision.facts() == saved["precision"]
    assert [trial.name for trial in fitted.precision.trials] == ["fp32", "bf16"]
    assert Precision.of(saved["precision"]) == fitted.precision


def test_each_precision_is_another_training(tmp_path: Path) -> None:
    losses = {name: train(tmp_path / name, name, epochs=1).history[0]["loss"] for name in ("fp32", "bf16", "fp8")}
    assert len(set(losses.values())) == 3
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["fp8"] == pytest.approx(losses["fp32"], rel=0.1)


def test_the_probe_leaves_weights_optimiser_and_random_state_alone(tmp_path: Path) -> None:
    """What follows it is bit for bit what follows when its choice was asked for."""
    torch.manual_seed(11)
    module, before = wide_module(), torch.random.get_rng_state()
    chosen = train(tmp_path / "auto", "auto", module=module)
    assert_same(train(tmp_path / "asked", chosen.precision.name), chosen)
    rehearsed = choose("auto", Learner(module), lambda _: draws())
    assert rehearsed.trials[0].step_ms is not None
    torch.random.set_rng_state(before)
    choose("auto", Learner(module), lambda _: draws())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_probe_takes_the_very_steps_that_training_would(tmp_path: Path) -> None:
    """Copied modules keep their hooks, so one list sees what each of them says."""
    seen: list[torch.Tensor] = []
    module = wide_module()
    module.register_forward_hook(lambda made, _, said: seen.append(said.detach()) if made.training else None)
    trained = copy.deepcopy(module)
    torch.manual_seed(3)  # the projection's first weights
    with pytest.raises(Interrupted):
        train(tmp_path / "auto", "auto", stop_at(0, of=STEPS), module=module)
    rehearsed = [said for said in seen if said.dtype == torch.float32]
    assert (len(rehearsed), len(seen)) == (10, 20)
    seen.clear()
    torch.manual_seed(3)
    train(tmp_path / "fp32", "fp32", module=trained)
    assert all(torch.equal(one, other) for one, other in zip(rehearsed[:STEPS], seen[:STEPS], strict=True))
    assert not torch.equal(rehearsed[0], rehearsed[STEPS]), "the same batch again, after five steps"


def draws() -> Iterator[float]:
    while True:
        torch.manual_seed(int(torch.rand(1) * 100))
        yield 1.0


class Scripted:
    """A clock, and steps that take the seconds and give the losses that a test says."""

    def __init__(self, seconds: dict[str, list[float]], losses: dict[str, list[float]]) -> None:
        self.now, self.seconds, self.losses = 0.0, seconds, losses
        self.order: list[str] = []

    def clock(self) -> float:
        return self.now

    def rehearse(self, precision: Precision) -> Iterator[float]:
        name = precision.name
        for step, loss in enumerate(self.losses.get(name, [1.0] * 10)):
            self.order.append(name)
            self.now += self.seconds[name][step]
            yield loss


def decided(script: Scripted, *names: Name) -> Precision:
    return probe(tuple(Precision(name) for name in names), script.rehearse, CPU, script.clock)


@pytest.mark.parametrize(
    ("bf16_ms", "losses", "chosen", "why"),
    [
        (5.0, [1.0] * 10, "bf16", "a step takes 5.0 ms, and 10.0 ms in fp32"),
        (9.7, [1.0] * 10, "fp32", "a step takes 10.0 ms, and 9.7 ms in bf16"),
        (22.0, [1.0] * 10, "fp32", "a step takes 10.0 ms, and 22.0 ms in bf16"),
        (5.0, [1.0] * 9 + [1.04], "bf16", "the same within 5%"),
        (5.0, [1.0] * 9 + [1.06], "fp32", "differs from float32's by 6.0%"),
        (5.0, [0.9] + [1.0] * 9, "fp32", "differs from float32's by 10.0%"),
        (5.0, [1.0] * 9 + [float("nan")], "fp32", "a loss is not a number"),
        (5.0, [float("inf")] + [1.0] * 9, "fp32", "a loss is not a number"),
    ],
)
def test_the_fastest_safe_one_is_chosen(bf16_ms: float, losses: list[float], chosen: str, why: str) -> None:
    script = Scripted({"fp32": [0.01] * 10, "bf16": [bf16_ms / 1000] * 10}, {"bf16": losses})
    precision = decided(script, "fp32", "bf16")
    assert precision.name == chosen
    assert why in precision.why
    assert [trial.step_ms for trial in precision.trials] == pytest.approx([10.0, bf16_ms])
    assert precision.trials[0].difference == 0
    assert script.order == ["fp32", "bf16"] * 10, "they take turns"


def test_steps_that_settle_or_stall_do_not_count() -> None:
    """Two slow first steps, and three of eight that something else held up: the median is the usual step."""
    script = Scripted({"fp32": [0.01] * 10, "bf16": [3.0, 3.0, 0.004, 9.0, 0.004, 9.0, 0.004, 0.004, 9.0, 0.004]}, {})
    assert decided(script, "fp32", "bf16").name == "bf16"


def test_small_losses_are_compared_as_shares_of_a_tenth() -> None:
    """0.001 and 0.002 are a hundredth of a tenth apart."""
    script = Scripted({"fp32": [0.01] * 10, "bf16": [0.005] * 10}, {"fp32": [0.001] * 10, "bf16": [0.002] * 10})
    precision = decided(script, "fp32", "bf16")
    assert precision.name == "bf16"
    assert precision.trials[1].difference == pytest.approx(0.01)


@pytest.mark.parametrize("error", [RuntimeError("no kernel\nat all"), PlanError("no kernel", hint="x")])
def test_a_format_that_fails_is_not_safe_and_float32s_failure_is_a_failure(error: Exception) -> None:
    def fails(name: str) -> Rehearse:
        def rehearse(precision: Precision) -> Iterator[float]:
            for _ in range(4 if precision.name == name else 10):
                yield 1.0
            raise error

        return rehearse

    precision = probe((Precision(), Precision("bf16")), fails("bf16"), CPU)
    assert (precision.name, precision.trials[1].safe, precision.trials[1].why) == ("fp32", False, "no kernel")
    with pytest.raises(type(error)):
        probe((Precision(), Precision("bf16")), fails("fp32"), CPU)


def test_where_there_is_no_bfloat16_auto_is_float32_and_bf16_is_refused() -> None:
    learner = Learner(wide_module()).to("meta")
    assert not has_bfloat16(torch.device("meta"))
    assert has_bfloat16(CPU)
    precision = choose("auto", learner, lambda _: iter([1.0] * 10))
    assert (precision.name, len(precision.trials)) == ("fp32", 1)
    with pytest.raises(EnvironmentUnfit, match="bf16 is not usable here"):
        choose("bf16", learner, lambda _: iter([]))


def test_eight_bits_are_named_emulated_and_refused_where_they_change_nothing() -> None:
    precision = choose("fp8", Learner(wide_module()), lambda _: iter([]))
    assert precision.emulated
    assert precision.how.startswith("1 layers")
    assert not Precision().emulated
    with pytest.raises(PlanError, match="fp8 changes nothing"):
        choose("fp8", Learner(nn.Sequential(nn.Linear(4, 99), nn.ReLU(), nn.Linear(99, 2))), lambda _: iter([]))


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_a_training_that_diverges_says_so(tmp_path: Path, precision: Wanted) -> None:
    with pytest.raises(PlanError, match="diverged"):
        train(tmp_path, precision, module=nn.Sequential(nn.Linear(FEATURES, 20), nn.Linear(20, 20), nn.Linear(20, 3)),
              rate=1e30)  # fmt: skip


def test_eight_and_sixteen_bits_reach_float32s_accuracy(tmp_path: Path) -> None:
    """Within two of 40 rows, in the mean of three seeds."""
    reached: dict[str, list[float]] = {"fp32": [], "bf16": [], "fp8": []}
    for (name, scores), seed in itertools.product(reached.items(), range(3)):
        module = wide_module(seed)
        fitted = fit(
            Learner(module), BatchLesson(TinyBatches(), OBJECTIVES), Schedule(16, 0.02, 0.01, seed=seed),
            groups=[{"params": module.parameters()}], validate=validate, folder=tmp_path / f"{name}{seed}",
            report=lambda *_: None, precision=name,  # type: ignore[arg-type]
        )  # fmt: skip
        scores.append(fitted.score.accuracy)
    means = {name: float(np.mean(scores)) for name, scores in reached.items()}
    assert means["fp32"] > 0.85
    assert min(means.values()) >= means["fp32"] - 0.05


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_what_was_trained_is_plain_float32_to_validate_keep_and_export(tmp_path: Path, precision: Wanted) -> None:
    module = wide_module()
    keys, classes = list(module.state_dict()), [type(part) for part in module.modules()]
    fitted = train(tmp_path, precision, epochs=2, module=module)
    assert [type(part) for part in module.modules()] == classes
    assert list(fitted.weights) == keys == list(module.state_dict())
    assert {weight.dtype for weight in fitted.weights.values()} == {torch.float32, torch.int64}
    assert not any("forward" in vars(part) for part in module.modules())
    plain = wide_module(1)
    plain.load_state_dict(fitted.weights)
    assert validate(plain.eval()) == fitted.score
    copy.deepcopy(module)(held_out()[0])


def test_a_student_trained_in_eight_bits_exports_as_before() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    )
    pixels = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    precision = choose("fp8", Learner(network), lambda _: iter([]))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with precision.products(Learner(network)):
        network(pixels).square().sum().backward()
    optimizer.step()
    network.eval()
    session = onnxruntime.InferenceSession(export_network(network, 1, 16), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"pixels": pixels.numpy()})
    np.testing.assert_allclose(found, network(pixels).detach().numpy(), rtol=1e-4, atol=1e-5)
    assert {node.type for node in session.get_inputs()} == {"tensor(float)"}


def test_the_precision_is_part_of_what_a_student_is_and_not_of_its_labels() -> None:
    assert "compute.precision" in DISTIL.keys
    assert not any("precision" in key for key in LABEL.keys)
    assert ComputePlan().precision == "fp32"
    with pytest.raises(ValidationError, match="precision"):
        ComputePlan.model_validate({"precision": "fp16"})


def test_the_students_facts_say_how_it_was_trained_and_the_baseline_follows(tmp_path: Path) -> None:
    lot = small_lot(tmp_path / "lot", 8)
    for wanted, names in {"auto": {"fp32", "bf16"}, "fp8": {"fp8"}}.items():
        seen: list[Facts] = []
        context = tiny_context(tmp_path / "home", lot, f"compute.precision={wanted}", "recipe.epochs=1")
        run_line(context, until="distil", listen=lambda result, seen=seen: seen.append(result.artifact.facts))
        student, baseline = (seen[-1][name]["precision"] for name in ("student", "baseline"))
        assert student["name"] in names
        assert student["emulated"] == (wanted == "fp8")
        assert [trial["name"] for trial in student["trials"]] == (["fp32", "bf16"] if wanted == "auto" else [])
        assert baseline == student | {"why": "as the student, which it is compared to"}
    assert student["how"].startswith("7 layers")
