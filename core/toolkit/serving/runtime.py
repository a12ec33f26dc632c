"""How a task's models come to life on a site: what the server asks of a task, and what it offers for that.

Types only, without a web framework, so that a task can name them anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from toolkit.errors import IntegrityError
from toolkit.protocols import PredictorFacts
from toolkit.serving.batching import Observer


class SealedFiles(Protocol):
    """An opened bundle, as far as serving it needs."""

    @property
    def roles(self) -> Sequence[str]: ...

    def read(self, role: str) -> bytes: ...

    def forget(self, role: str) -> None: ...


class Queue(Protocol):
    """What stands before a model, as far as the server itself needs to know."""

    @property
    def facts(self) -> PredictorFacts: ...

    @property
    def waiting(self) -> int:
        """How much is in it."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        ...

    async def stop(self) -> None:
        """Take nothing new, and answer what was taken."""
        ...


class Runtime(Protocol):
    """What the server asks of a task: a part of `tasks.base.Task`."""

    def open_installed(self, files: SealedFiles, facts: PredictorFacts, threads: int) -> Any:
        """The bundle's model, from RAM into a session; the decrypted copies are wiped once it stands. One inference has
        so many `threads`; 0: what suits the task."""
        ...

    def prove(self, predictor: Any, golden: bytes) -> None:
        """Warm it up on inputs whose answers are known. Raises EnvironmentUnfit where it answers otherwise here."""
        ...

    def queue(
        self, predictor: Any, *, together: int, delay_ms: float, limit: int, preparers: int, observer: Observer
    ) -> Queue:
        """What stands between requests and the model, and domains are handed: `ServedPredictor` or `ServedText`.

        Args:
            together: requests that the model answers at once.
            delay_ms: how long one may be held back so that others join it.
            limit: requests that may wait.
            preparers: threads that make inputs beside the model's own; 0 where that one makes them itself.
        """
        ...


def misfit(role: str) -> IntegrityError:
    """What is said of a bundle's file that is not what its role says."""
    hint = "Build the bundle again with this version of the toolkit."
    return IntegrityError(f"the bundle's {role} cannot be used", part=role, hint=hint)
