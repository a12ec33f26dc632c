"""What KServe v2 tells of served models and asks of them, whichever way the request came.

Between the wire forms, HTTP and gRPC, and `Models`: names, metadata, readiness, and one inference. Knows arrays, and
neither JSON nor protobuf.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import cast

import numpy as np

from toolkit.errors import DataError, Unsupported
from toolkit.protocols import ServedPredictor, TensorSpec
from toolkit.serving.kserve_tensors import Stated, check_stated, datatype_of
from toolkit.serving.models import Models, ServedModel
from toolkit.serving.refusals import ModelFault, TooLate
from toolkit.serving.steps import step
from toolkit.serving.written import SEEN

SERVER = "distil-toolkit"
EXTENSIONS = ("binary_tensor_data",)
"""Of the protocol. The repository has an index, but no loading by name: what is served comes in signed bundles."""

MOST_TENSORS = 256
"""Inputs or outputs of one request."""


@dataclass(frozen=True)
class Given:
    """An input as it came: what is said of it, and how its values are read once that is known to fit."""

    stated: Stated
    read: Callable[[], np.ndarray]


def server_version() -> str:
    """Of this software."""
    return version_of("distil-toolkit")


def is_ready(model: ServedModel) -> bool:
    """Whether it would answer now."""
    return not model.queue.closed and model.standing().holds


def ready(models: Models) -> bool:
    """Whether all would."""
    return all(map(is_ready, models.all()))


def versions(models: Models, model: ServedModel) -> list[str]:
    """All that answer of its product."""
    return sorted({one.facts.version for one in models.all() if one.facts.product == model.facts.product})


def platform(model: ServedModel) -> str:
    """Triton's name for ONNX Runtime; a model that writes texts has no tensors to offer."""
    return "onnxruntime_onnx" if model.inputs else model.queue.facts.provider


def described(specs: Sequence[TensorSpec]) -> list[Stated]:
    """Tensors as metadata list them; -1 in a shape is any number."""
    return [Stated(spec.name, datatype_of(spec.dtype), spec.shape) for spec in specs]


def details(model: ServedModel) -> dict[str, str]:
    """What is said of a model beyond the protocol. The execution provider is the one that really runs it."""
    return {
        "bundle": model.facts.id, "form": model.queue.facts.form, "active_provider": model.queue.facts.provider,
    }  # fmt: skip


async def infer(model: ServedModel, given: Sequence[Given], *, seconds: float | None = None) -> dict[str, np.ndarray]:
    """The model's outputs by name.

    Args:
        seconds: after so long nobody waits for the answer any more.

    Raises:
        DataError: the inputs are not the model's. Unsupported: it takes no tensors. Overloaded: its queue is full.
        TooLate: `seconds` have passed. ModelFault: it failed on what fits its description.
    """
    if not model.inputs:
        raise Unsupported(f"{model.facts.product} writes texts", hint="Ask it at POST /v1/chat/completions.")
    with step("decode"):
        arrays = _checked(model, given)
    predictor = cast(ServedPredictor, model.queue)
    try:
        async with asyncio.timeout(seconds):
            outputs = dict(await predictor.predict(arrays))
    except TimeoutError as error:
        raise TooLate(f"there was no answer within {seconds:g} seconds", hint="Ask again, or allow more.") from error
    except ModelFault as fault:
        # An axis of any length is the client's choice, and a graph may still not take every one.
        if any(-1 in spec.shape[1:] for spec in model.inputs):
            raise DataError(fault.message, hint="Choose other lengths of the axes that are -1.") from fault
        raise
    if (noted := SEEN.get()) is not None:
        noted += model.sampled(arrays, outputs)
    return outputs


def chosen(model: ServedModel, outputs: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[str]:
    """The names of the outputs that are asked for; all in the model's order where none is.

    Raises:
        DataError: the model has none of that name.
    """
    for name in wanted:
        if name not in outputs:
            raise DataError(
                f"{model.facts.product} has no output {name[:80]}", hint=f"It has: {', '.join(outputs)}."
            )  # fmt: skip
    return list(wanted or outputs)


def _checked(model: ServedModel, given: Sequence[Given]) -> dict[str, np.ndarray]:
    specs = {spec.name: spec for spec in model.inputs}
    names = [one.stated.name for one in given]
    if sorted(names) != sorted(specs):
        found = ", ".join(name[:80] for name in names[:8]) or "none"
        raise DataError(f"{model.facts.product} takes the inputs {', '.join(specs)}, and {found} came", hint=_LOOK)
    for one in given:
        check_stated(one.stated, specs[one.stated.name])
    return {one.stated.name: one.read() for one in given}


_LOOK = "GET /v2/models/NAME says what the model takes."
