"""A model whose answers are worked out by an executor's workers. Whoever scores it sees a predictor like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from toolkit.executors import LocalExecutor
from toolkit.protocols import Executor, PredictorFacts, TensorPredictor, Tensors, Workers
from toolkit.tasks.base import AnyPredictor
from toolkit.text import TextPredictor


def executor_for(predictor: AnyPredictor, executor: Executor) -> Executor:
    """Who works out the predictor's answers: the executor, or this process where it writes text."""
    return LocalExecutor() if isinstance(predictor, TextPredictor) else executor


def spread(predictor: AnyPredictor, workers: Workers) -> AnyPredictor:
    """The same model, its answers worked out by the workers; one that writes text works here."""
    return predictor if isinstance(predictor, TextPredictor) else SpreadPredictor(predictor, workers)


@dataclass(frozen=True)
class Opening:
    """Carries a predictor to a worker, which unpacks it once."""

    predictor: TensorPredictor

    def __call__(self) -> Callable[[Tensors], Tensors]:
        return self.predictor.predict


@dataclass(frozen=True)
class SpreadPredictor:
    """A `BatchPredictor`: each batch is a piece of work. `predictor` can be pickled."""

    predictor: TensorPredictor
    workers: Workers

    @property
    def facts(self) -> PredictorFacts:
        return self.predictor.facts

    def predict(self, inputs: Tensors) -> Tensors:
        """One batch, here: to send it elsewhere would gain nothing."""
        return self.predictor.predict(inputs)

    def predict_all(self, batches: Iterable[Tensors]) -> Iterator[Tensors]:
        return self.workers.map(Opening(self.predictor), batches)
