"""`POST /v1/inspect`: pictures in, verdicts out, over whatever predictor core gives.

Knows HTTP bodies and the shape of an answer; what a verdict is, `service` decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, Field

from toolkit.errors import DataError
from toolkit.protocols import ServedPredictor, Tensors
from toolkit.services import Seen, Watch
from toolkit.serving.forms import read_uploads
from toolkit.tasks.image_classification.appearance import appearance
from toolkit.tasks.image_classification.images import StoredImage
from toolkit.tasks.image_classification.service import Decision

MOST_PICTURES = 256
PICTURE_TYPES = ("image/jpeg", "image/png", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")

# curl's own default for --data-binary; the bytes say what they are.
_UNTYPED = ("", "application/x-www-form-urlencoded")
# Pictures of one request decoded or waiting at once: enough to fill a batch, and not the queue.
_ABREAST = 4

_BRIEF_BYTES, _BRIEF_PIXELS = 2**16, 2**18
"""A picture up to both is decoded within a millisecond or two."""

_BINARY = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {
        "image": {**_BINARY, "description": "One picture: one answer."},
        "images": {"type": "array", "items": _BINARY, "description": "Several pictures: `results`."},
    },
}
_CONTENT: dict[str, Any] = {name: {"schema": _BINARY} for name in PICTURE_TYPES}
_CONTENT["multipart/form-data"] = {"schema": _FORM}

_EXAMPLE = {
    "verdict": "scratch", "pass": False, "probabilities": {"good": 0.031, "scratch": 0.958, "stain": 0.011},
    "latency_ms": 2.4, "bundle": "9c5e1f0a7b42", "request_id": "4b1d0f6c2a9e8d37",
}  # fmt: skip

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The verdict, or `results`.", "content": {"application/json": {"example": _EXAMPLE}}},
    401: {"description": "No API key, or an unknown one."},
    413: {"description": "More bytes than the server takes."},
    422: {"description": "Not a picture that can be read."},
    503: {"description": "Busy: ask again after `Retry-After` seconds."},
}


class InspectionAnswer(BaseModel):
    """The verdict on one picture."""

    verdict: str = Field(description="The class that is called.")
    passed: bool | None = Field(alias="pass", description="Whether the part is good; null where no class means good.")
    probabilities: dict[str, float] = Field(description="Probability of each class.")
    latency_ms: float = Field(description="From the picture's arrival to its verdict, on the server.")
    bundle: str = Field(description="Id of the bundle that answered.")
    request_id: str = Field(description="Found again in the log and in the header X-Request-Id.")


class BatchAnswer(BaseModel):
    """Verdicts in the order of the pictures; a picture that cannot be read has `error` instead."""

    results: list[InspectionAnswer | dict[str, Any]]
    latency_ms: float
    bundle: str
    request_id: str


Detail = Callable[[Tensors, tuple[int, int]], Mapping[str, Any]]
"""What an answer says beside the verdict, of a model's outputs for one picture, and the picture's height and width."""


def inspection_routes(
    decision: Decision, *, bundle_id: str, channels: int, predictor: ServedPredictor,
    detail: Detail | None = None, answer: type[InspectionAnswer] = InspectionAnswer,
) -> APIRouter:  # fmt: skip
    """The routes of the default inspection service; `answer` documents one answer, with what `detail` adds."""
    Image.init()  # Pillow loads its decoders when it first needs one: now, and not while a part waits
    router = APIRouter(prefix="/v1", tags=["inspection"])

    async def judge(picture: bytes, seen: list[Seen]) -> dict[str, Any]:
        looked = _Look(picture, channels)
        outputs = await predictor.predict(looked)
        said = _said(decision, detail, outputs, looked.size)
        seen.append(_seen(picture, said, looked.measures))
        return said

    async def judge_or_tell(picture: bytes, seen: list[Seen]) -> dict[str, Any]:
        """One bad picture in a batch fails only itself; a busy server fails the batch, to be asked again."""
        try:
            return await judge(picture, seen)
        except DataError as error:
            return {"error": error.as_record()}

    @router.post(
        "/inspect",
        summary="Inspect one picture, or several at once.",
        description="Send one picture as the body, or a form: one file in the field `image` gets one answer, files in "
        "the field `images` get `results` in their order.",
        response_model=answer | BatchAnswer,
        openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
        responses=_RESPONSES,
    )
    async def inspect(request: Request) -> JSONResponse:
        started = time.perf_counter()
        pictures, single = _pictures_of(request.headers.get("content-type", ""), await request.body())
        answers: list[dict[str, Any]]
        seen: list[list[Seen]] = [[] for _ in pictures]
        if single:
            answers = [await judge(pictures[0], seen[0])]
        else:
            answers = []
            for start in range(0, len(pictures), _ABREAST):
                abreast = slice(start, start + _ABREAST)
                answers += await asyncio.gather(*map(judge_or_tell, pictures[abreast], seen[abreast]))
        request.state.seen = [one for of_picture in seen for one in of_picture]
        request.state.verdicts = [answer["verdict"] for answer in answers if "verdict" in answer]
        tail = {
            "latency_ms": round((time.perf_counter() - started) * 1000, 3),
            "bundle": bundle_id,
            "request_id": request.state.request_id,
        }
        return JSONResponse(answers[0] | tail if single else {"results": answers} | tail)

    return router


def tensor_watch(decision: Decision, detail: Detail | None = None) -> Watch:
    """What an answer in bare tensors was given to: of a batch the first picture, as a file that is written quickly."""

    def watch(inputs: Tensors, outputs: Tensors) -> Sequence[Seen]:
        pixels = np.asarray(inputs["image"][0])
        if min(pixels.shape[:2]) < 2:
            return []
        said = _said(decision, detail, outputs, pixels.shape[:2])
        file = BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "BMP")
        return [_seen(file.getvalue(), said, appearance(pixels))]

    return watch


class _Look:
    """Decodes a picture when it is called, into the model's input, and keeps its height and width and how it looks.
    Raises DataError."""

    size: tuple[int, int]
    measures: Mapping[str, float]

    def __init__(self, picture: bytes, channels: int) -> None:
        self._picture, self._channels = picture, channels

    @cached_property
    def _stored(self) -> StoredImage:
        return StoredImage(self._picture)

    @property
    def brief(self) -> bool:
        return len(self._picture) <= _BRIEF_BYTES and self._stored.pixels <= _BRIEF_PIXELS

    @property
    def needs(self) -> int:
        return self._stored.needs

    def __call__(self) -> Tensors:
        pixels = self._stored.planes(self._channels)
        self.size, self.measures = pixels.shape[:2], appearance(pixels)
        return {"image": pixels[np.newaxis]}


def _seen(picture: bytes, said: Mapping[str, Any], looks: Mapping[str, float]) -> Seen:
    """What is watched of an answer: as `evaluate` has it of the test rows."""
    second, first = sorted(said["probabilities"].values())[-2:]
    scores = {"score": float(said["score"])} if "score" in said else {}
    return Seen("picture", picture, said["verdict"], {**looks, **scores, "confidence": first}, first - second)


def _said(decision: Decision, detail: Detail | None, outputs: Tensors, size: tuple[int, int]) -> dict[str, Any]:
    """What is answered of the first picture of `outputs`, which is `size` high and wide."""
    first = {name: array[0] for name, array in outputs.items()}
    verdict = decision.of(first["probabilities"])
    said = {"verdict": verdict.name, "pass": verdict.passed, "probabilities": verdict.probabilities}
    return said | dict(detail(first, size)) if detail is not None else said


def _pictures_of(content_type: str, body: bytes) -> tuple[list[bytes], bool]:
    """The pictures of a request, and whether it asks for one answer rather than `results`.

    Raises:
        DataError: neither a picture nor a form with pictures.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = [u for u in read_uploads(content_type, body, most=MOST_PICTURES) if u.field in ("image", "images")]
        if not uploads:
            raise DataError("the form has no picture", hint="Send files in the field `image` or `images`.")
        return [upload.data for upload in uploads], len(uploads) == 1 and uploads[0].field == "image"
    if kind not in PICTURE_TYPES and kind not in _UNTYPED:
        raise DataError(
            f"{kind} is not a picture",
            hint=f"Send one of {', '.join(PICTURE_TYPES)}, or multipart/form-data.",
        )
    if not body:
        raise DataError("the request has no picture", hint="Send its bytes as the body, or in a form.")
    return [body], True
