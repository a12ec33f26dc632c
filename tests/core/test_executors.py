"""The executor `local`; and that neither a stage's digest nor what it finds depends on who does the work."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from distil_parts import one_thread
from executor_parts import Backwards, done_by, found_in
from line_parts import CLASSES, TinyTeacher, attempt, small_lot, tiny_context, tiny_plugins

from toolkit.errors import PlanError
from toolkit.executors import LocalExecutor
from toolkit.pipeline import check_plan
from toolkit.plan import ComputePlan, Plan
from toolkit.protocols import PredictorFacts
from toolkit.serving.sessions import OnnxPredictor
from toolkit.tasks.image_classification import labelling
from toolkit.tasks.image_classification.augment import Augmentation
from toolkit.testing.executors import Work, check_executor
from toolkit.testing.images import picture_model, pictures
from toolkit.workspace import Workspace


def test_local_keeps_the_contract(tmp_path: Path) -> None:
    check_executor(LocalExecutor(), Plan(domain="mine"), tmp_path, apart=False)


def test_local_works_with_the_threads_of_the_plan() -> None:
    with LocalExecutor().open(Plan(domain="mine", compute=ComputePlan(threads=3))) as workers:
        assert workers.threads == 3


def test_an_executor_that_nobody_offers_is_named_with_the_nearest() -> None:
    with pytest.raises(PlanError, match="no executor is named locl") as caught:
        check_plan(Plan(domain="industry", compute=ComputePlan(executor="locl")), tiny_plugins())
    assert "Did you mean local?" in caught.value.hint


# --- whoever works, the same is found ----------------------------------------------------------------------------


@dataclass(frozen=True)
class BackwardsExecutor:
    """Offers the one above; `workers` is looked at afterwards."""

    workers: Backwards
    name: str = "backwards"

    def check(self, plan: Plan) -> None:
        """Fits any plan."""

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Backwards]:
        yield self.workers


@pytest.fixture(scope="module")
def lot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_lot(tmp_path_factory.mktemp("executors") / "lot")


@pytest.fixture(scope="module")
def home(lot: Path) -> Path:
    """Where this process has labelled, trained and scored by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "BATCH", 5)
        _, refused = attempt(tiny_context(lot.parent / "home", lot), "evaluate")
    assert refused is None
    return lot.parent / "home"


def test_labels_and_scores_are_the_same_whoever_works(
    home: Path, lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "BATCH", 5)
    monkeypatch.setattr(labelling, "PIECE", 10)
    backwards = Backwards()
    _, refused = attempt(done_by(BackwardsExecutor(backwards), tmp_path, lot), "evaluate")
    assert refused is None
    found = found_in(tmp_path)
    assert found == found_in(home)
    shards = json.loads(next(value for name, value in found.items() if name.endswith("labels.json")))["shards"]
    assert len(shards) == 6
    assert sum(isinstance(piece, labelling.Piece) for piece in backwards.pieces) > 6, "a view is several pieces"
    assert any(isinstance(piece, dict) for piece in backwards.pieces), "test rows are spread too"


def test_changing_the_executor_runs_nothing_again(home: Path, lot: Path) -> None:
    kept, refused = attempt(done_by(BackwardsExecutor(Backwards()), home, lot), "evaluate")
    assert refused is None
    assert kept == dict.fromkeys(("prepare", "label", "distil", "evaluate"), True)


def test_what_is_labelled_already_wakes_nobody(home: Path, lot: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    (labels,) = tmp_path.glob("store/labels/*")
    Workspace(tmp_path).reopen("labels", labels.name)
    backwards = Backwards()
    kept, refused = attempt(done_by(BackwardsExecutor(backwards), tmp_path, lot), "label")
    assert (kept["label"], refused) == (False, None)
    assert backwards.pieces == []


def test_the_network_says_on_a_device_what_its_export_says(home: Path) -> None:
    """What a worker with an accelerator does, on the one device that is always there."""
    (folder,) = home.glob("store/labels/*")
    pictures = np.random.default_rng(0).integers(0, 256, (7, 1, 40, 40), np.uint8)
    exported = labelling.Asking(
        pictures, 3, Augmentation(), 32, ("logits", "features"), 1, "cpu",
        weights=(folder / labelling.NETWORK).read_bytes(), spec=None,
    )  # fmt: skip
    spec = TinyTeacher().load(Plan(domain="mine"), CLASSES)
    trained = replace(exported, weights=(folder / labelling.WEIGHTS).read_bytes(), spec=spec)
    piece = labelling.Piece(view=2, first=1, last=6)
    with one_thread():
        here, there = exported()(piece), trained()(piece)
    assert here["logits"].shape == (5, 3)
    for name in ("logits", "features"):
        np.testing.assert_allclose(here[name], there[name], rtol=1e-4, atol=1e-5)


# --- a model that travels ----------------------------------------------------------------------------------------


def test_a_portable_model_answers_the_same_elsewhere() -> None:
    facts = PredictorFacts("teacher", "", "0" * 64)
    here = OnnxPredictor(picture_model(), facts=facts, portable=True)
    there = pickle.loads(pickle.dumps(here))
    assert there.facts == here.facts
    for row in pictures(3):
        np.testing.assert_array_equal(there.predict(row)["probabilities"], here.predict(row)["probabilities"])
    assert pickle.loads(pickle.dumps(there)).facts == here.facts, "and may travel on"


def test_a_model_on_a_site_keeps_no_copy_of_its_bytes() -> None:
    """What was decrypted for a session must not be found in memory, nor leave it, by another way."""
    model = picture_model()
    predictor = OnnxPredictor(model, facts=PredictorFacts("installed", "", ""))
    with pytest.raises(TypeError, match="portable"):
        pickle.dumps(predictor)
    assert not any(value is model for value in vars(predictor).values())


def test_the_suites_own_work_can_travel(tmp_path: Path) -> None:
    work = pickle.loads(pickle.dumps(Work(tmp_path, wide=2)))()
    np.testing.assert_array_equal(work(3), [9.0, 9.0])
