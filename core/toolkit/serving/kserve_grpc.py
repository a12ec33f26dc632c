"""KServe v2 over gRPC, beside the HTTP server: the same models, queues, keys and limits, in the same event loop.

Each method is taken as a stream of its one message, which on the wire is the same: so the key is checked and room is
found before any of the message is read, and it has to arrive in time. A client that goes, or whose deadline has
passed, cancels its work; that is gRPC's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from toolkit.errors import DataError, EnvironmentUnfit, ToolkitError, Unsupported
from toolkit.serving.backing import Backing
from toolkit.serving.dispatch import SESSION
from toolkit.serving.gateway import CLIENT_GONE
from toolkit.serving.kserve_call import INFER, Call, identified, metadata_of, one_message
from toolkit.serving.kserve_messages import SERVICE, message, methods
from toolkit.serving.kserve_models import (
    EXTENSIONS,
    MOST_TENSORS,
    SERVER,
    Given,
    chosen,
    described,
    infer,
    is_ready,
    platform,
    ready,
    server_version,
    versions,
)
from toolkit.serving.kserve_parameters import seconds_of
from toolkit.serving.kserve_tensors import RAW_ONLY, Stated, datatype_of, from_raw, from_values, to_raw
from toolkit.serving.limits import GrpcAddress
from toolkit.serving.models import Models, named
from toolkit.serving.refusals import Overloaded, TooMany, status_of
from toolkit.serving.written import SEEN

OPEN = "ServerLive"
"""The one method that needs no key."""

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""The field of a datatype's values."""

_CODES: Mapping[int, grpc.StatusCode] = {
    401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED, 409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED, 422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip

Answer = Callable[[Any, Call], Awaitable[Any]]


@contextlib.asynccontextmanager
async def grpc_server(behind: Backing, at: GrpcAddress) -> AsyncIterator[int]:
    """Serve at that address (port 0 for a free one) while the block runs; gives the port. The end drains. Workers
    share a port: the system spreads connections over them.

    Raises:
        EnvironmentUnfit: nothing can listen there.
    """
    limits, address, credentials = behind.limits, at.address, _credentials(at)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=limits.connections,
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_idle_ms", int(limits.idle_seconds * 60_000)),
            ("grpc.server_handshake_timeout_ms", int(limits.handshake_seconds * 1000)),
        ],
    )
    server.add_generic_rpc_handlers((_handlers(behind),))
    try:
        port = (
            server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        )  # fmt: skip
    except RuntimeError as error:
        raise EnvironmentUnfit(
            f"cannot listen on {address} for gRPC", hint="Stop what listens there, or choose another --grpc-port."
        ) from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(limits.drain_seconds)


def _credentials(at: GrpcAddress) -> grpc.ServerCredentials | None:
    """TLS as the same files give it to HTTP, which has tried them."""
    if at.certificate is None or at.key is None:
        return None
    pair = (at.key.read_bytes(), at.certificate.read_bytes())
    clients = at.client_ca.read_bytes() if at.client_ca else None
    return grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)


def _handlers(behind: Backing) -> grpc.GenericRpcHandler:
    answers, limits = _answers(behind.models), behind.limits
    reading = asyncio.Semaphore(max(1, limits.held_bytes // limits.body_bytes))
    found = {
        name: grpc.stream_unary_rpc_method_handler(
            partial(_attend, behind, reading, name, answers[name]),
            response_serializer=message(f"{name}Response").SerializeToString,
        )
        for name in methods()
    }
    return grpc.method_handlers_generic_handler(SERVICE, found)


async def _attend(
    behind: Backing, reading: asyncio.Semaphore, name: str, answer: Answer, stream: AsyncIterable[bytes], context: Any
) -> Any:
    """One call: who it is, whether there is room, what it says, the answer; counted however it ends."""
    metadata = metadata_of(context)
    call, status, found = Call(behind, name, metadata.get(SESSION, b"").decode("latin-1")), CLIENT_GONE, None
    if behind.tracing is not None:
        call.trace = behind.tracing.begin(metadata.get("traceparent", b"").decode("latin-1"))
    try:
        if name != OPEN:
            call.identity = identified(behind, metadata, context.peer())
        if name == INFER and behind.ledger is not None:
            behind.ledger.check()
            SEEN.set(call.seen)  # a call has a context of its own
        with behind.in_hand.one_more(behind.limits.requests):
            call.data = await one_message(behind.limits, reading, stream)
            with behind.in_hand.holding(len(call.data), behind.limits.held_bytes):
                found = await answer(_parsed(name, call.data), call)
        status = 200
        return found
    except ToolkitError as error:
        status = status_of(error)
        if isinstance(error, Overloaded | TooMany):
            context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
        told = f"{error.message}. {error.hint}" if error.hint else error.message
        await context.abort(_CODES.get(status, grpc.StatusCode.INTERNAL), told)
    except Exception:
        status = 500
        with contextlib.suppress(grpc.aio.AbortError):
            told = f"The server failed on this request. Its log has {call.id}."
            await context.abort(grpc.StatusCode.INTERNAL, told)
        raise  # gRPC writes its traceback to the log
    finally:
        call.ended(status, found)


def _parsed(name: str, data: bytes) -> Any:
    try:
        return message(f"{name}Request").FromString(data)
    except DecodeError as error:
        raise DataError(f"this is no {name}Request") from error


def _answers(models: Models) -> Mapping[str, Answer]:
    """What each method answers to its request."""

    async def server_live(_asked: Any, _call: Call) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def server_ready(_asked: Any, _call: Call) -> Any:
        return message("ServerReadyResponse")(ready=ready(models))

    async def model_ready(asked: Any, _call: Call) -> Any:
        return message("ModelReadyResponse")(ready=is_ready(named(models, asked.name, asked.version or None)))

    async def server_metadata(_asked: Any, _call: Call) -> Any:
        return message("ServerMetadataResponse")(name=SERVER, version=server_version(), extensions=EXTENSIONS)

    async def model_metadata(asked: Any, _call: Call) -> Any:
        model = named(models, asked.name, asked.version or None)
        return message("ModelMetadataResponse")(
            name=model.facts.product, versions=versions(models, model), platform=platform(model),
            inputs=_tensors(described(model.inputs)), outputs=_tensors(described(model.outputs)),
        )  # fmt: skip

    async def index(asked: Any, _call: Call) -> Any:
        return message("RepositoryIndexResponse")(models=[
            {"name": one.facts.product, "version": one.facts.version,
             "state": "READY" if is_ready(one) else "UNAVAILABLE"}
            for one in models.all() if is_ready(one) or not asked.ready
        ])  # fmt: skip

    return {
        "ServerLive": server_live, "ServerReady": server_ready, "ModelReady": model_ready,
        "ServerMetadata": server_metadata, "ModelMetadata": model_metadata, "RepositoryIndex": index,
        INFER: partial(_infer, models),
    }  # fmt: skip


def _tensors(found: Sequence[Stated]) -> list[dict[str, Any]]:
    return [{"name": one.name, "datatype": one.datatype, "shape": one.shape} for one in found]


async def _infer(models: Models, asked: Any, call: Call) -> Any:
    _check_parameters("request", asked.parameters, {"priority", "timeout"})
    for one in (*asked.inputs, *asked.outputs):
        _check_parameters(f"tensor {one.name[:80]}", one.parameters, set())
    call.model = model = named(models, asked.model_name, asked.model_version or None, call.key)
    outputs = await infer(model, _given(asked), seconds=seconds_of(_parameter(asked.parameters, "timeout", 0)))
    wanted = chosen(model, outputs, [one.name for one in asked.outputs])
    arrays = [outputs[name] for name in wanted]
    kinds = [datatype_of(array.dtype.name) for array in arrays]
    raw = bool(asked.raw_input_contents) or not RAW_ONLY.isdisjoint(kinds)
    return message("ModelInferResponse")(
        model_name=model.facts.product, model_version=model.facts.version, id=asked.id,
        outputs=[
            {"name": name, "datatype": kind, "shape": array.shape}
            | ({} if raw else {"contents": {CONTENTS[kind]: _values(array)}})
            for name, kind, array in zip(wanted, kinds, arrays, strict=True)
        ],
        raw_output_contents=[bytes(to_raw(array)) for array in arrays] if raw else (),
    )  # fmt: skip


def _given(asked: Any) -> list[Given]:
    if len(asked.inputs) > MOST_TENSORS or len(asked.outputs) > MOST_TENSORS:
        raise DataError(f"more than {MOST_TENSORS} inputs or outputs")
    stated = [Stated(one.name, one.datatype, tuple(one.shape)) for one in asked.inputs]
    if not asked.raw_input_contents:
        pairs = zip(stated, asked.inputs, strict=True)
        return [Given(tensor, partial(_typed, tensor, one.contents)) for tensor, one in pairs]
    if any(one.HasField("contents") for one in asked.inputs):
        raise DataError("contents and raw_input_contents came, and only one of them may")
    if len(asked.raw_input_contents) != len(stated):
        raise DataError(f"{len(stated)} inputs came with {len(asked.raw_input_contents)} raw_input_contents")
    raw = zip(stated, asked.raw_input_contents, strict=True)
    return [Given(tensor, partial(from_raw, tensor, data)) for tensor, data in raw]


def _typed(stated: Stated, contents: Any) -> np.ndarray:
    values = list(getattr(contents, CONTENTS[stated.datatype])) if stated.datatype in CONTENTS else []
    if stated.datatype == "BYTES":
        try:
            values = [text.decode() for text in values]
        except UnicodeDecodeError as error:
            raise DataError(f"the input {stated.name[:80]} has a text that is not UTF-8") from error
    return from_values(stated, values)


def _values(array: np.ndarray) -> list[Any]:
    flat = array.ravel().tolist()
    return [text.encode() for text in flat] if array.dtype.kind == "O" else flat


def _check_parameters(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(given) - known:
        raise Unsupported(f"the {where}'s parameter {min(unknown)[:80]} is not understood here", hint="Leave it out.")


def _parameter(given: Mapping[str, Any], name: str, default: object) -> object:
    """The value of a parameter, of whichever type it came in."""
    if name not in given:
        return default
    return getattr(given[name], given[name].WhichOneof("parameter_choice") or "", None)
