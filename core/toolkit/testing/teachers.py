"""What every teacher promises, as one check: `check_teacher(teacher, plan)`."""

from __future__ import annotations

import json
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock

from toolkit.plan import Plan
from toolkit.protocols import Teacher, TeacherRecord, TeacherSpec
from toolkit.tasks.base import TASKS

CARRIERS = {"response", "features", "maps", "relations", "text"}
DISTILLATION = {"allowed", "conditional", "forbidden", "unknown"}
CLASSES = ("good", "pit", "scratch")
APART = """
import pickle, sys
sys.path[:] = {path!r}
teacher, plan = pickle.loads(sys.stdin.buffer.read())
print(teacher.record(plan).id, teacher.fingerprint(plan), *sorted({{"torch", "transformers"}} & set(sys.modules)))
"""


def check_teacher(teacher: Teacher, plan: Plan) -> None:
    """Run the conformance suite of teachers of pictures.

    Args:
        plan: one in which the teacher can work: with its checkpoint and an input size it takes.

    Raises:
        AssertionError: naming the promise that is not kept.
    """
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", teacher.name), f"{teacher.name!r} is no name to type"
    assert teacher.tasks, f"{teacher.name} teaches no task"
    assert teacher.tasks <= set(TASKS), f"{teacher.name} teaches tasks that do not exist: {teacher.tasks - set(TASKS)}"
    assert teacher.gives, f"{teacher.name} gives nothing to learn from"
    assert teacher.gives <= CARRIERS, f"{teacher.name} gives what no recipe knows: {teacher.gives - CARRIERS}"
    with no_network():
        record = teacher.record(plan)
        _check_record(record)
        assert teacher.record(plan) == record, "record() says the same every time"
        fingerprint = teacher.fingerprint(plan)
        assert re.fullmatch(r"[0-9a-f]{64}", fingerprint), "fingerprint() is a SHA-256 in hexadecimal"
        assert teacher.fingerprint(plan) == fingerprint, "fingerprint() is stable"
        _check_apart(teacher, plan, record.id, fingerprint)
        _check_spec(teacher.load(plan, CLASSES), plan.teacher.input_size)


@contextmanager
def no_network() -> Iterator[None]:
    """Whatever tries to reach another machine fails, and says so."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a teacher reads what is installed or named; it never reaches for the network")

    with (
        mock.patch.object(socket.socket, "connect", refuse),
        mock.patch.object(socket, "create_connection", refuse),
        mock.patch.object(socket, "getaddrinfo", refuse),
    ):
        yield


def _check_record(record: TeacherRecord) -> None:
    assert record.id, "the record has an id"
    assert record.distillation in DISTILLATION, f"distillation is one of {sorted(DISTILLATION)}"
    assert record.licence or record.distillation == "unknown", "without a licence, distillation is unknown"
    if record.distillation == "conditional":
        assert record.obligations, "a conditional licence says under which conditions"
    assert all(isinstance(one, str) and one for one in record.obligations), "obligations are sentences"


def _check_apart(teacher: Teacher, plan: Plan, name: str, fingerprint: str) -> None:
    """Licence and fingerprint are asked for at plan time: in a process of its own, torch must stay away.

    The teacher is handed over by pickle: an object of an importable class, as a plugin's is.
    """
    code = APART.format(path=sys.path)
    asked = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((teacher, plan)), capture_output=True, timeout=120
    )
    assert asked.returncode == 0, f"record() or fingerprint() failed in another process: {asked.stderr.decode()}"
    told = asked.stdout.decode().strip()
    assert told == f"{name} {fingerprint}", f"record() and fingerprint() in another process: {told!r}"


def _check_spec(spec: TeacherSpec, size: int) -> None:
    import torch

    from toolkit.distil.learner import last_layer, with_features

    assert len(spec.mean) == len(spec.std) == 3, "mean and std have a value for each of three planes"
    assert all(value > 0 for value in spec.std), "std is above zero"
    json.dumps(dict(spec.describe))
    first, second = (_seeded(spec, seed) for seed in (1, 2))
    with torch.inference_mode():
        logits = first.eval()(torch.zeros(2, 3, size, size))
    assert tuple(logits.shape) == (2, len(CLASSES)), f"logits {tuple(logits.shape)} for two pictures, three classes"
    assert bool(torch.isfinite(logits).all()), "logits are numbers"
    with torch.inference_mode():
        said, features = with_features(first, last_layer(first, spec.head), torch.zeros(2, 3, size, size))
    assert torch.equal(said, logits), "looking at the features changes nothing"
    assert features.ndim == 2, "the last layer takes one vector of features a picture"
    assert bool(torch.isfinite(features).all()), "features are numbers"
    head = {id(parameter) for parameter in first.get_submodule(last_layer(first, spec.head)).parameters()}
    assert any(p.requires_grad for p in first.parameters() if id(p) in head), "the new last layer can be trained"
    body = [
        torch.equal(one, other)
        for one, other in zip(first.parameters(), second.parameters(), strict=True)
        if id(one) not in head
    ]
    assert body, "there is a body below the head"
    assert all(body), "the body comes from the checkpoint: two builds hold the same weights"


def _seeded(spec: TeacherSpec, seed: int) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return spec.build()
