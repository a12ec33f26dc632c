"""KServe v2 over gRPC, driven by Triton's own client and by bare calls: the models, keys and limits of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve_parts import KINDS, every_datatype, served, serving, values_of
from serving_parts import Running, expected, mean_model

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

from tritonclient.utils import InferenceServerException  # noqa: E402

from toolkit.errors import EnvironmentUnfit  # noqa: E402
from toolkit.serving.backing import Backing  # noqa: E402
from toolkit.serving.figures import STEP, Figures  # noqa: E402
from toolkit.serving.kserve_grpc import grpc_server  # noqa: E402
from toolkit.serving.kserve_messages import COMPILED, SERVICE, message, methods  # noqa: E402
from toolkit.serving.limits import GrpcAddress, Limits  # noqa: E402
from toolkit.serving.shared import Shared  # noqa: E402


@dataclass(frozen=True)
class Both:
    """A server for HTTP, and where it speaks gRPC."""

    http: Running
    address: str

    @property
    def key(self) -> dict[str, str]:
        return {"x-api-key": self.http.keys["infer"]}


@contextlib.contextmanager
def both(
    model: Any, site: Path, limits: Limits | None = None, shared: Shared | None = None, heard: Any = None, **how: Any
) -> Iterator[Both]:
    ports: list[int] = []

    @contextlib.asynccontextmanager
    async def remembered(behind: Backing) -> Any:
        async with grpc_server(behind, GrpcAddress("127.0.0.1:0", **how)) as port:
            ports.append(port)
            yield

    told = [heard] if heard else []
    with serving(model, site, limits=limits, servers=[remembered], shared=shared, heard=told) as server:
        while not ports:
            time.sleep(0.01)
        yield Both(server, f"127.0.0.1:{ports[0]}")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(served(every_datatype()), tmp_path_factory.mktemp("site")) as it:
        yield it


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(served(mean_model()[0]), tmp_path_factory.mktemp("site"), Limits(body_bytes=300_000)) as it:
        yield it


@contextlib.contextmanager
def client_of(server: Both, **how: Any) -> Iterator[Any]:
    client = triton.InferenceServerClient(server.address, **how)
    try:
        yield client
    finally:
        client.close()


def test_health_and_metadata_as_the_real_client_asks(every: Both) -> None:
    with client_of(every) as client:
        assert client.is_server_live()
        assert client.is_server_ready(headers=every.key)
        assert client.is_model_ready("tiny", headers=every.key)
        assert client.is_model_ready("tiny", "1.7", headers={"authorization": f"Bearer {every.key['x-api-key']}"})
        about = client.get_server_metadata(headers=every.key)
        assert (about.name, list(about.extensions)) == ("distil-toolkit", ["binary_tensor_data"])
        model = client.get_model_metadata("tiny", headers=every.key)
        assert (model.name, list(model.versions), model.platform) == ("tiny", ["1.7"], "onnxruntime_onnx")
        assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [
            (f"in_{name}", name, [-1, 2]) for name in KINDS
        ]
        index = client.get_model_repository_index(headers=every.key)
        assert [(one.name, one.version, one.state) for one in index.models] == [("tiny", "1.7", "READY")]


@pytest.mark.parametrize("rows", [1, 5])
def test_every_datatype_goes_there_and_back(every: Both, rows: int) -> None:
    given = []
    for name in KINDS:
        one = triton.InferInput(f"in_{name}", [rows, 2], name)
        one.set_data_from_numpy(values_of(name, rows))
        given.append(one)
    wanted = [triton.InferRequestedOutput(f"out_{name}") for name in KINDS]
    with client_of(every) as client:
        found = client.infer("tiny", given, outputs=wanted, request_id="r-1", headers=every.key)
    assert (found.get_response().id, found.get_response().model_version) == ("r-1", "1.7")
    for name in KINDS:
        array = found.as_numpy(f"out_{name}")
        if name == "BYTES":
            array = np.array([text.decode() for text in array.ravel()], object).reshape(array.shape)
        np.testing.assert_array_equal(array, values_of(name, rows))


def call(server: Both, name: str, asked: Any, *, key: bool = True, timeout: float = 10) -> Any:
    """A bare call; `asked` is a request, or bytes that may be none."""
    data = asked if isinstance(asked, bytes) else asked.SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(f"/{SERVICE}/{name}")
        metadata = tuple(server.key.items()) if key else ()
        return message(f"{name}Response").FromString(method(data, timeout=timeout, metadata=metadata))


def refused(server: Both, name: str, asked: Any, **how: Any) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(server, name, asked, **how)
    return error.value.code(), error.value.details()


def colours(rows: int = 1, **changes: Any) -> Any:
    """A request in typed contents to the model of pictures."""
    one = {
        "name": "image", "datatype": "UINT8", "shape": [rows, 1, 2, 3],
        "contents": {"uint_contents": list(range(6 * rows))},
    }  # fmt: skip
    return message("ModelInferRequest")(model_name="tiny", inputs=[one | changes])


def test_typed_contents_are_answered_in_typed_contents(every: Both, pictures: Both) -> None:
    found = call(pictures, "ModelInfer", colours(2))
    assert not found.raw_output_contents
    values = np.array(found.outputs[0].contents.fp32_contents).reshape(tuple(found.outputs[0].shape))
    np.testing.assert_allclose(values, expected(np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)), atol=1e-6)


def test_only_liveness_needs_no_key(every: Both) -> None:
    assert call(every, "ServerLive", b"", key=False).live
    for name in methods():
        if name != "ServerLive":
            assert refused(every, name, b"", key=False)[0] == grpc.StatusCode.UNAUTHENTICATED


WRONG = {
    "no message": b"\xff\xff\xff", "another datatype": colours(datatype="FP32"), "another rank": colours(shape=[6]),
    "too few": colours(contents={"uint_contents": [1]}), "beyond": colours(contents={"uint_contents": [256] * 6}),
    "another field": colours(contents={"fp32_contents": [1.0] * 6}), "huge": colours(shape=[2**62, 2**62, 2**62, 3]),
    "negative": colours(shape=[-1, 1, 2, 3]), "another name": colours(name="x"), "no datatype": colours(datatype=""),
    "raw that is missing": colours(contents=None),
    "both": message("ModelInferRequest")(
        model_name="tiny", inputs=[{"name": "image", "datatype": "UINT8", "shape": [1, 1, 2, 3],
                                    "contents": {"uint_contents": [1] * 6}}], raw_input_contents=[b"123456"],
    ),
    "more raw than inputs": message("ModelInferRequest")(model_name="tiny", raw_input_contents=[b"1", b"2"]),
    "shared memory": colours(parameters={"shared_memory_region": {"string_param": "x"}}),
}  # fmt: skip


@pytest.mark.parametrize("asked", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_an_invalid_argument(pictures: Both, asked: Any) -> None:
    code, why = refused(pictures, "ModelInfer", asked)
    assert (code, bool(why)) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_an_unknown_model_and_a_message_too_large(pictures: Both) -> None:
    other = message("ModelInferRequest")(model_name="other")
    assert refused(pictures, "ModelInfer", other)[0] == grpc.StatusCode.NOT_FOUND
    assert refused(pictures, "ModelReady", message("ModelReadyRequest")(name="tiny", version="9"))[0] == (
        grpc.StatusCode.NOT_FOUND
    )
    assert refused(pictures, "ModelInfer", b"\x00" * 300_001)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_frees_the_queue_and_a_full_server_says_no(tmp_path: Path) -> None:
    model = served(mean_model()[0])
    with both(model, tmp_path, Limits(requests=1)) as server, server.http.client("operate") as watcher:
        held = model.queue._thread.submit(time.sleep, 1.0)  # type: ignore[attr-defined]
        assert refused(server, "ModelInfer", colours(), timeout=0.2)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        with grpc.insecure_channel(server.address) as channel:
            waiting = channel.unary_unary(f"/{SERVICE}/ModelInfer").future(
                colours().SerializeToString(), timeout=10, metadata=tuple(server.key.items())
            )
            while not re.search(r"^toolkit_requests_in_progress.* 1.0$", watcher.get("/metrics").text, re.MULTILINE):
                time.sleep(0.01)
            code, why = refused(server, "ModelInfer", colours())
            assert (code, "busy" in why) == (grpc.StatusCode.UNAVAILABLE, True)
            held.result()
            assert message("ModelInferResponse").FromString(waiting.result()).model_name == "tiny"
        counted = watcher.get("/metrics").text
        assert f'route="/{SERVICE}/ModelInfer",status="499"' in counted
        assert f'route="/{SERVICE}/ModelInfer",status="200"' in counted


def image() -> list[Any]:
    one = triton.InferInput("image", [1, 1, 2, 3], "UINT8")
    one.set_data_from_numpy(np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3))
    return [one]


def test_the_real_clients_timeout_is_in_microseconds_and_counted_as_too_late(tmp_path: Path) -> None:
    model = served(mean_model()[0])
    with both(model, tmp_path) as server, client_of(server) as client, server.http.client("operate") as watcher:
        for allowed in (0, 10_000_000):
            assert client.infer("tiny", image(), timeout=allowed, headers=server.key).as_numpy("probabilities").size
        held = model.queue._thread.submit(time.sleep, 1.0)  # type: ignore[attr-defined]
        with pytest.raises(InferenceServerException, match=r"within 0\.2 seconds") as error:
            client.infer("tiny", image(), timeout=200_000, headers=server.key)
        assert error.value.status() == str(grpc.StatusCode.DEADLINE_EXCEEDED)
        assert not held.done()
        held.result()
        with pytest.raises(InferenceServerException, match="whole number of microseconds"):
            client.infer("tiny", image(), timeout=-1, headers=server.key)
        for other in ({"double_param": 1.0}, {"bool_param": True}, {"string_param": "1"}, {}):
            asked = colours()
            asked.parameters["timeout"].CopyFrom(message("InferParameter")(**other))
            assert refused(server, "ModelInfer", asked)[0] == grpc.StatusCode.INVALID_ARGUMENT
        assert f'route="/{SERVICE}/ModelInfer",status="504"' in watcher.get("/metrics").text


def test_a_bug_is_a_500_that_is_counted_and_tells_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_args: Any, **_how: Any) -> None:
        raise RuntimeError("a secret of the server's")

    monkeypatch.setattr("toolkit.serving.kserve_grpc.infer", broken)
    heard: list[tuple[Any, int]] = []
    model = served(mean_model()[0])
    with both(model, tmp_path, heard=lambda model, _route, status, *_: heard.append((model, status))) as server:
        code, why = refused(server, "ModelInfer", colours())
        assert (code, "secret" in why) == (grpc.StatusCode.INTERNAL, False)
        assert call(server, "ServerReady", b"").ready
        with server.http.client("operate") as watcher:
            counted = watcher.get("/metrics").text
    assert f'route="/{SERVICE}/ModelInfer",status="500"' in counted
    assert heard == [(model, 500), (None, 200), (None, 200)]
    assert "a secret of the server's" in caplog.text


def test_who_goes_before_the_message_is_there_is_no_fault(tmp_path: Path) -> None:
    async def go(address: str, metadata: Any) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            asking = channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata)
            await asyncio.sleep(0.3)
            asking.cancel()

    heard: list[int] = []
    with both(
        served(mean_model()[0]), tmp_path, heard=lambda _model, _route, status, *_: heard.append(status)
    ) as server:
        asyncio.run(go(server.address, tuple(server.key.items())))
        deadline = time.monotonic() + 5
        while not heard:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert max(heard) < 500


def test_answers_are_in_the_charts_and_questions_about_health_are_not(tmp_path: Path) -> None:
    now = [1_000_000.0]
    figures = Figures(lambda: now[0])
    with both(served(mean_model()[0]), tmp_path, shared=Shared(figures=figures)) as server:
        call(server, "ModelInfer", colours())
        call(server, "ServerReady", b"")
        assert refused(server, "ModelInfer", colours(name="x"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    now[0] += STEP
    assert figures.series(1)["total"] == 2


def test_a_client_that_sends_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async def silent(address: str, metadata: Any) -> Any:
        async with grpc.aio.insecure_channel(address) as channel:
            asking = channel.stream_unary(f"/{SERVICE}/ModelInfer")(metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await asking
            return error.value.code()

    with both(served(mean_model()[0]), tmp_path, Limits(arrival_seconds=0.3)) as server:
        code = asyncio.run(silent(server.address, tuple(server.key.items())))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_no_more_messages_are_read_at_once_than_may_be_held(tmp_path: Path) -> None:
    async def ask(address: str, metadata: Any) -> float:
        async with grpc.aio.insecure_channel(address) as channel:
            began = time.monotonic()
            method = channel.stream_unary(f"/{SERVICE}/ModelInfer")
            silent = [method(metadata=metadata) for _ in range(2)]
            await asyncio.sleep(0.3)
            honest = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            found = await honest(colours().SerializeToString(), metadata=metadata)
            waited = time.monotonic() - began
            assert message("ModelInferResponse").FromString(found).model_name == "tiny"
            codes = {await one.code() for one in silent}
            assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
            return waited

    limits = Limits(arrival_seconds=0.6, body_bytes=300_000, held_bytes=600_000)
    with both(served(mean_model()[0]), tmp_path, limits) as server:
        assert 0.5 < asyncio.run(ask(server.address, tuple(server.key.items()))) < 5


def test_a_port_that_is_taken_is_told(every: Both) -> None:
    async def again() -> None:
        async with grpc_server(Backing(None, None, Limits(), None, None), GrpcAddress("203.0.113.1:1")):  # type: ignore[arg-type]
            pass

    with pytest.raises(EnvironmentUnfit, match="cannot listen"):
        asyncio.run(again())


def test_over_tls_where_the_server_has_a_certificate(tmp_path: Path) -> None:
    certificate, private = self_signed()
    (tmp_path / "root.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(private)
    tls = {"certificate": tmp_path / "root.pem", "key": tmp_path / "key.pem"}
    with both(served(mean_model()[0]), tmp_path, Limits(handshake_seconds=0.5), **tls) as server:
        address = server.address.replace("127.0.0.1", "localhost")
        client = triton.InferenceServerClient(address, ssl=True, root_certificates=str(tmp_path / "root.pem"))
        with contextlib.closing(client):
            assert client.is_server_ready(headers=server.key)
        assert refused(server, "ServerLive", b"")[0] == grpc.StatusCode.UNAVAILABLE
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as silent:
            assert silent.recv(100) == b""  # who begins no handshake is let go


def self_signed() -> tuple[bytes, bytes]:
    """A certificate of localhost and its key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def test_what_the_server_reads_is_what_the_protocol_file_says(tmp_path: Path) -> None:
    """`make protocols` was run after the last change of kserve.proto."""
    protoc = pytest.importorskip("grpc_tools.protoc", reason="grpcio-tools is not installed")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    folder, made = files("toolkit.serving"), tmp_path / COMPILED
    assert protoc.main(["protoc", f"--proto_path={folder}", f"--descriptor_set_out={made}", "kserve.proto"]) == 0
    shipped = folder.joinpath(COMPILED).read_bytes()
    assert FileDescriptorSet.FromString(made.read_bytes()) == FileDescriptorSet.FromString(shipped)


@pytest.mark.parametrize("name", ["ModelInferRequest", "ModelInferResponse", "ModelMetadataResponse"])
def test_names_and_numbers_are_those_of_the_real_clients(name: str) -> None:
    from tritonclient.grpc import service_pb2

    def numbered(descriptor: Any) -> dict[str, int]:
        return {field.name: field.number for field in descriptor.fields}

    theirs, ours = getattr(service_pb2, name).DESCRIPTOR, message(name).DESCRIPTOR
    assert numbered(ours) == numbered(theirs)
    for nested in ours.nested_types:
        assert numbered(nested) == numbered(theirs.nested_types_by_name[nested.name])
