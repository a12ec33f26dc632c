"""A teacher for the tests of its conformance suite, in a module that another process can import."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toolkit.plan import Plan
from toolkit.protocols import TeacherRecord, TeacherSpec


@dataclass(frozen=True)
class Tutor:
    """A teacher whose every promise can be broken by itself; its checkpoint is a seed."""

    name: str = "tutor"
    tasks: frozenset[str] = frozenset({"image_classification"})
    gives: frozenset[str] = frozenset({"response"})
    licence: str = "MIT"
    forgets: bool = False
    calls: bool = False
    outputs: int = 0

    def record(self, plan: Plan) -> TeacherRecord:
        return TeacherRecord("tutor", self.licence, "", "allowed")

    def fingerprint(self, plan: Plan) -> str:
        return "0" * 64

    def load(self, plan: Plan, classes: Sequence[str]) -> TeacherSpec:
        import torch

        if self.calls:
            socket.create_connection(("127.0.0.1", 9))

        def build() -> Any:
            head = torch.nn.Linear(4, self.outputs or len(classes))
            with torch.random.fork_rng():
                if not self.forgets:
                    torch.manual_seed(0)
                body = torch.nn.Conv2d(3, 4, 3)
            return torch.nn.Sequential(body, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)

        return TeacherSpec(build, (0.5,) * 3, (0.2,) * 3)
