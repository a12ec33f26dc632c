"""What every hardware target promises, as one check: `check_target(target, tmp_path)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts, Target, TensorPredictor, Tensors
from toolkit.testing.images import picture_model, pictures

TOLERANCE = {"fp32": 1e-4}
LOW_PRECISION_TOLERANCE = 0.1
"""Largest difference of a probability from the reference; forms of less precision are rounded, not wrong."""


def check_target(target: Target, tmp_path: Path, *, runs_here: bool = True) -> None:
    """Run the conformance suite of targets.

    Args:
        runs_here: whether this machine has the hardware. Where it has not, `load` must say so, and nothing is run.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    profile = _check_profiles(target)
    exported, calibration = picture_model(), list(pictures(12))
    forms = list(target.compile(exported, iter(calibration), profile, _fresh(tmp_path / "compile")))
    _check_forms(forms)
    facts = PredictorFacts("compiled", "", "0" * 64)
    _check_refusal(target, forms[-1], replace(profile, name="another-box", arch=("no-such-machine",)), facts)
    if not runs_here:
        _check_refusal(target, forms[-1], profile, facts)
        return
    rows = list(pictures(6, seed=1000))
    expected = _reference(exported, rows)
    for form in forms:
        predictor = target.load(form.model, profile, facts)
        assert predictor.facts.form == facts.form, "a predictor keeps the form it was loaded as"
        assert predictor.facts.digest == facts.digest, "a predictor keeps the digest it was loaded with"
        assert predictor.facts.provider, "a predictor names the provider that runs it"
        _check_answers(form.form, predictor, rows, expected)


def _check_profiles(target: Target) -> HardwareProfile:
    """The target's own profile, after a look at all of them."""
    profiles = {profile.name: profile for profile in target.profiles()}
    assert len(profiles) == len(list(target.profiles())), f"two profiles of {target.name} have one name"
    assert target.name in profiles, f"{target.name} offers no profile of its own name"
    for profile in profiles.values():
        assert profile.target == target.name, f"the profile {profile.name} names the target {profile.target}"
        assert profile.arch, f"the profile {profile.name} says nothing about the machines it runs on"
        assert profile.describe, f"the profile {profile.name} does not say what it is"
        assert profile.threads >= 1, f"the profile {profile.name} has no thread"
    return profiles[target.name]


def _check_forms(forms: Sequence[CompiledForm]) -> None:
    names = [form.form for form in forms]
    assert names, "compile() built nothing"
    assert names[-1] == "fp32", f"fp32 comes last, it is what the others are judged by; these came: {names}"
    assert len(set(names)) == len(names), f"two forms have one name: {names}"
    assert all(isinstance(form.model, bytes) and form.model for form in forms), "a form is the bytes of a model file"


def _check_refusal(target: Target, form: CompiledForm, profile: HardwareProfile, facts: PredictorFacts) -> None:
    """A profile that cannot run here is refused with a hint, not tried."""
    try:
        target.load(form.model, profile, facts)
    except EnvironmentUnfit as error:
        refusal = error
    else:
        raise AssertionError(f"the profile {profile.name} does not run here, and load() did not say so")
    assert refusal.hint, "a refusal says what to do next"


def _check_answers(form: str, predictor: TensorPredictor, rows: Sequence[Tensors], expected: np.ndarray) -> None:
    single = np.concatenate([predictor.predict(row)["probabilities"] for row in rows])
    batch = predictor.predict({"image": np.concatenate([row["image"] for row in rows])})["probabilities"]
    for found, how in ((single, "one by one"), (batch, "in a batch")):
        assert found.dtype == np.float32, f"{form} {how}: probabilities are float32"
        assert found.shape == expected.shape, f"{form} {how}: {found.shape} probabilities, {expected.shape} expected"
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3, err_msg=f"{form} {how}: they do not sum to 1")
        tolerance = TOLERANCE.get(form, LOW_PRECISION_TOLERANCE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=f"{form} {how}: not the reference")


def _reference(exported: bytes, rows: Sequence[Tensors]) -> np.ndarray:
    """What ONNX's own evaluator says, which is written for clarity and shares no code with a runtime."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load_from_string(exported))
    answers: list[np.ndarray] = [np.asarray(session.run(["probabilities"], dict(row))[0]) for row in rows]  # type: ignore[index]
    return np.concatenate(answers)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
