"""From a bundle's files to a server: what is refused before anything is served."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi import APIRouter
from serving_parts import Files, bundle_files, expected, facts_of, golden, inspection, mean_model, picture, running

from toolkit.errors import EnvironmentUnfit, IntegrityError, PlanError, PluginError
from toolkit.protocols import PredictorFacts
from toolkit.serving.assembly import Tuning, assemble
from toolkit.tasks.image_classification import task
from toolkit.tasks.image_classification.installed import open_installed, prove

FACTS = PredictorFacts("installed", "", "b-123")


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_bundle_becomes_an_app_and_its_decrypted_model_is_wiped(tmp_path: Path) -> None:
    files = Files(bundle_files())
    assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=inspection, tuning=Tuning())
    assert "model" in files.forgotten


def test_separate_weights_are_read_and_wiped(tmp_path: Path) -> None:
    model, weights = mean_model(external=True)
    files = Files(bundle_files(model=model, weights=weights))
    assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=inspection, tuning=Tuning())
    assert {"model", "weights"} <= set(files.forgotten)


def test_the_domain_learns_the_bundle(tmp_path: Path) -> None:
    files, seen = Files(bundle_files()), []

    def ask(bundle, predictor):  # type: ignore[no-untyped-def]
        seen.append(dict(bundle))
        return inspection(bundle, predictor)

    assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=ask, tuning=Tuning())
    assert seen == [{
        "id": "b-123", "version": "1.7", "product": "tiny", "domain": "tiny", "development_keys": True,
        "plan": {"domain": "tiny", "task": "image_classification"}, "classes": ("good", "scratch"),
        "good_class": "good", "channels": 3, "sample": False, "thresholds": {"good": 0.5}, "metrics": {}, "files": {},
        "reference": {},
        "gate": {},
    }]  # fmt: skip


def test_a_domain_may_put_its_routes_together_from_others(tmp_path: Path) -> None:
    def ask(bundle, predictor):  # type: ignore[no-untyped-def]
        service, router = inspection(bundle, predictor), APIRouter()
        router.include_router(service.routes)
        return replace(service, routes=router)

    with running(tmp_path, ask=ask) as server, server.client() as client:
        schema = client.get("/openapi.json").json()
        assert client.post("/v1/inspect", content=picture((230, 20, 20))).json()["verdict"] == "good"
    assert "/v1/inspect" in schema["paths"]
    assert "bearer" in schema["components"]["securitySchemes"]


@pytest.mark.parametrize("shift", [0.002, np.nan])
def test_answers_that_differ_from_those_released_are_refused(shift: float) -> None:
    images = np.random.default_rng(5).integers(0, 256, (2, 9, 9, 3), np.uint8)
    predictor = open_installed(Files(bundle_files()), FACTS, 1)
    probabilities = expected(images).astype(np.float32)
    prove(predictor, archive(image=images, probabilities=probabilities + np.float32(0.0005)))
    with pytest.raises(EnvironmentUnfit):
        prove(predictor, archive(image=images, probabilities=probabilities + np.float32(shift)))
    with pytest.raises(EnvironmentUnfit):
        prove(predictor, archive(image=images, probabilities=probabilities[:, :1]))


@pytest.mark.parametrize(
    "data",
    [b"", b"PK nonsense", golden()[:-40], archive(image=np.zeros(1)), archive(image=np.array([{}], object))],
)
def test_a_golden_file_that_is_none_is_refused(data: bytes) -> None:
    predictor = open_installed(Files(bundle_files()), FACTS, 1)
    with pytest.raises(IntegrityError):
        prove(predictor, data)


@pytest.mark.parametrize(
    ("role", "data"),
    [
        ("classes", b"{"), ("classes", b"[]"), ("classes", b"{}"), ("plan", b"3"), ("thresholds", b'{"good": "high"}'),
        ("thresholds", b'{"good": null}'),
    ],
)  # fmt: skip
def test_files_that_are_not_what_their_role_says_are_refused(role: str, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        facts_of(Files(bundle_files(**{role: data})))


def test_a_missing_file_is_named_and_thresholds_may_be_missing() -> None:
    files = bundle_files()
    assert facts_of(Files({role: data for role, data in files.items() if role != "thresholds"})).thresholds == {}
    assert facts_of(Files(files)).metrics == {}
    measured = {"accuracy": {"value": 0.9}}
    assert facts_of(Files(bundle_files(reference=json.dumps({"metrics": measured}).encode()))).metrics == measured
    with pytest.raises(IntegrityError, match="classes"):
        facts_of(Files({role: data for role, data in files.items() if role != "classes"}))


def test_thresholds_that_fit_no_class_are_refused_at_the_start(tmp_path: Path) -> None:
    files = Files(bundle_files(thresholds=json.dumps({"dent": 0.5}).encode()))
    with pytest.raises(PlanError):
        assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=inspection, tuning=Tuning())


def test_a_domain_without_a_service_and_damaged_keys_are_told_at_the_start(tmp_path: Path) -> None:
    files = Files(bundle_files())
    with pytest.raises(PluginError):
        assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=lambda *_: None, tuning=Tuning())
    (tmp_path / "access.json").write_text("{")
    with pytest.raises(IntegrityError):
        assemble(files, facts_of(files), runtime=task, site=tmp_path, ask=inspection, tuning=Tuning())
