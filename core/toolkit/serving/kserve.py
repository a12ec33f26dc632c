"""KServe v2 over HTTP, the Open Inference Protocol, with Triton's extension for binary tensor data.

A binary body is the JSON, whose length `Inference-Header-Content-Length` says, and then the tensors' bytes; inputs are
arrays over the body itself. What the protocol leaves open is refused where it would change the answer: an answer that
passes half of a request over looks right and is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, ValidationError

from toolkit.errors import DataError, Unsupported
from toolkit.serving.dispatch import key_of, note
from toolkit.serving.gateway import KSERVE_LIVE, KSERVE_READY
from toolkit.serving.kserve_models import (
    EXTENSIONS,
    MOST_TENSORS,
    SERVER,
    Given,
    chosen,
    described,
    details,
    infer,
    is_ready,
    platform,
    ready,
    server_version,
    versions,
)
from toolkit.serving.kserve_parameters import seconds_of
from toolkit.serving.kserve_tensors import Stated, datatype_of, from_raw, from_values, to_raw, to_values
from toolkit.serving.models import Models, ServedModel, named

HEADER = "inference-header-content-length"
SPOKEN = {"binary_data_output", "timeout"}
"""Parameters of a request that are understood; Triton's others change the answer, or its order."""
HARMLESS = {"priority", "headers"}

Name = Annotated[str, Field(max_length=1000)]
Value = str | bool | int | float
Parameters = dict[str, Value]


class Input(BaseModel):
    """An input tensor: its values as JSON, flat or nested, or `binary_data_size` bytes behind the JSON."""

    name: Name
    shape: list[Annotated[int, Field(strict=True, ge=0)]] = Field(max_length=64)
    datatype: Annotated[str, Field(max_length=16)]
    parameters: Parameters = Field(default_factory=dict)
    data: list[Any] | None = None


class Output(BaseModel):
    """An output that is asked for, with `binary_data`: whether as bytes behind the JSON."""

    name: Name
    parameters: Parameters = Field(default_factory=dict)


class InferBody(BaseModel):
    """The JSON of POST /v2/models/NAME/infer."""

    id: Annotated[str, Field(max_length=1000)] = ""
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[Input] = Field(max_length=MOST_TENSORS)
    outputs: list[Output] = Field(default_factory=list, max_length=MOST_TENSORS)


@dataclass(frozen=True)
class _Asked:
    """A request taken apart; `binary` says of an output whether it is wanted as bytes."""

    body: InferBody
    given: Sequence[Given]

    @property
    def seconds(self) -> float | None:
        """After how long nobody waits for the answer any more."""
        return seconds_of(self.body.parameters.get("timeout", 0))

    def binary(self, output: str) -> bool:
        whole = self.body.parameters.get("binary_data_output", False)
        own = next((one.parameters for one in self.body.outputs if one.name == output), {})
        return own.get("binary_data", whole) is True


def kserve_routes(models: Models) -> APIRouter:
    """The protocol's routes over what is served."""
    router = APIRouter(tags=["KServe v2"])
    _add_inference(router, models)  # asked most, so tried first
    _add_health(router, models)
    _add_models(router, models)
    return router


def _add_health(router: APIRouter, models: Models) -> None:
    @router.get("/v2", summary="The server, and which extensions of the protocol it has.")
    async def server() -> JSONResponse:
        return JSONResponse({"name": SERVER, "version": server_version(), "extensions": list(EXTENSIONS)})

    @router.get(KSERVE_LIVE, summary="Is the process alive? Needs no key.")
    async def live() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.get(KSERVE_READY, summary="Would every model answer now?", responses={503: _told("One would not.")})
    async def all_ready() -> JSONResponse:
        found = ready(models)
        return JSONResponse({"ready": found}, 200 if found else 503)


def _add_models(router: APIRouter, models: Models) -> None:
    @router.get("/v2/models/{model}", summary="A model's inputs and outputs.", responses=_NONE)
    @router.get("/v2/models/{model}/versions/{version}", summary="Those of one version.", responses=_NONE)
    async def metadata(model: str, version: str = "") -> JSONResponse:
        return JSONResponse(_metadata(models, named(models, model, version or None)))

    @router.get("/v2/models/{model}/ready", summary="Would it answer now?", responses=_READY)
    @router.get("/v2/models/{model}/versions/{version}/ready", summary="Would this version?", responses=_READY)
    async def model_ready(model: str, version: str = "") -> JSONResponse:
        found = named(models, model, version or None)
        holds = is_ready(found)
        return JSONResponse({"name": found.facts.product, "ready": holds}, 200 if holds else 503)

    @router.post("/v2/repository/index", summary="All that is served, version by version.", responses=_WRONG)
    async def index(request: Request) -> JSONResponse:
        only = _index_asked(await request.body())
        return JSONResponse([
            {"name": one.facts.product, "version": one.facts.version, "reason": "",
             "state": "READY" if is_ready(one) else "UNAVAILABLE"}
            for one in models.all() if is_ready(one) or not only
        ])  # fmt: skip


def _add_inference(router: APIRouter, models: Models) -> None:
    @router.post("/v2/models/{model}/infer", summary="Tensors in, tensors out.", **_INFER)
    @router.post("/v2/models/{model}/versions/{version}/infer", summary="By one version.", **_INFER)
    async def run(request: Request, model: str, version: str = "") -> Response:
        asked = _read(await request.body(), request.headers)
        served = named(models, model, version or None, key_of(request))
        note(request, served)
        outputs = await infer(served, asked.given, seconds=asked.seconds)
        wanted = chosen(served, outputs, [one.name for one in asked.body.outputs])
        return _written(served, asked, {name: outputs[name] for name in wanted})


def _metadata(models: Models, model: ServedModel) -> dict[str, Any]:
    def tensors(found: Sequence[Stated]) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in found]

    return {
        "name": model.facts.product, "versions": versions(models, model), "platform": platform(model),
        "inputs": tensors(described(model.inputs)), "outputs": tensors(described(model.outputs)),
        "parameters": details(model),
    }  # fmt: skip


def _read(body: bytes, headers: Mapping[str, str]) -> _Asked:
    """Raises DataError where the body is no request, or Unsupported where it asks for what is not done here."""
    if headers.get("content-encoding", "identity") != "identity":
        raise Unsupported("a compressed request is not understood here", hint="Send it as it is.")
    stated = headers.get(HEADER)
    if (stated is not None and not re.fullmatch("[0-9]{1,18}", stated)) or int(stated or 0) > len(body):
        raise DataError(f"{HEADER} is not the length of the JSON in a body of {len(body):,} bytes")
    length = len(body) if stated is None else int(stated)
    try:
        asked = InferBody.model_validate_json(body if length == len(body) else memoryview(body)[:length].tobytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the JSON"
        raise DataError(
            f"{where[:200]}: {first['msg'][:300]}", hint="It is an inference request of KServe v2."
        ) from error
    for name in asked.parameters:
        if name not in SPOKEN | HARMLESS:
            raise Unsupported(f"the parameter {name[:80]} is not understood here", hint="Leave it out.")
    for one in asked.outputs:
        if unknown := set(one.parameters) - {"binary_data"}:
            raise Unsupported(f"the output parameter {min(unknown)[:80]} is not understood here", hint="Leave it out.")
    return _Asked(asked, _given(asked.inputs, memoryview(body)[length:]))


def _given(inputs: Sequence[Input], rest: memoryview) -> list[Given]:
    given: list[Given] = []
    place = 0
    for one in inputs:
        stated = Stated(one.name, one.datatype, tuple(one.shape))
        if unknown := set(one.parameters) - {"binary_data_size"}:
            raise Unsupported(f"the input parameter {min(unknown)[:80]} is not understood here", hint="Leave it out.")
        size = one.parameters.get("binary_data_size")
        if (size is None) == (one.data is None):
            raise DataError(f"the input {one.name[:80]} has data or binary_data_size, one of them")
        if one.data is not None:
            given.append(Given(stated, partial(from_values, stated, one.data)))
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest) - place:
            raise DataError(f"the input {one.name[:80]} has another binary_data_size than bytes came for it")
        given.append(Given(stated, partial(from_raw, stated, rest[place : place + size])))
        place += size
    if place != len(rest):
        raise DataError(f"{len(rest) - place:,} bytes behind the JSON belong to no input")
    return given


def _written(model: ServedModel, asked: _Asked, outputs: Mapping[str, np.ndarray]) -> Response:
    parts: list[bytes | memoryview] = []
    records: list[dict[str, Any]] = []
    for name, array in outputs.items():
        record = {"name": name, "datatype": datatype_of(array.dtype.name), "shape": list(array.shape)}
        if asked.binary(name):
            parts.append(to_raw(array))
            records.append(record | {"parameters": {"binary_data_size": len(parts[-1])}})
        else:
            records.append(record | {"data": to_values(name, array)})
    answer = {"model_name": model.facts.product, "model_version": model.facts.version, "outputs": records}
    head = json.dumps(answer | ({"id": asked.body.id} if asked.body.id else {}), ensure_ascii=False).encode()
    if not parts:
        return Response(head, media_type="application/json")
    body = b"".join([head, *parts])
    return Response(body, headers={HEADER: str(len(head))}, media_type="application/octet-stream")


def _index_asked(body: bytes) -> bool:
    """Whether only models that are ready are wanted."""
    try:
        asked = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise DataError("the body is not JSON") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("ready", False), bool):
        raise DataError('the body is {"ready": true or false}, or nothing')
    return bool(asked.get("ready", False))


def _told(what: str) -> dict[str, Any]:
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {"description": what, "content": {"application/json": {"schema": schema}}}


_NONE: dict[int | str, dict[str, Any]] = {404: _told("No such model, or version.")}
_WRONG: dict[int | str, dict[str, Any]] = {400: _told("The request is none, or does not fit the model.")}
_READY: dict[int | str, dict[str, Any]] = {**_NONE, 503: {"description": "It would not."}}
_INFER: dict[str, Any] = {
    "response_model": None,
    "response_description": "The outputs; with Inference-Header-Content-Length, JSON and then the tensors' bytes.",
    "responses": {
        **_WRONG, **_NONE, 413: _told("The request is too large."),
        503: _told("The queue is full, or the grant ended."), 504: _told("Not within the timeout that was asked for."),
    },
    "openapi_extra": {
        "parameters": [{
            "name": "Inference-Header-Content-Length", "in": "header", "schema": {"type": "integer", "minimum": 0},
            "description": "The length of the JSON, where tensors follow it as bytes.",
        }],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string", "maxLength": 1000},
                        "parameters": {"type": "object"},
                        "inputs": {
                            "type": "array", "maxItems": MOST_TENSORS, "items": Input.model_json_schema(),
                        },
                        "outputs": {
                            "type": "array", "maxItems": MOST_TENSORS, "items": Output.model_json_schema(),
                        },
                    },
                }},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
}  # fmt: skip
