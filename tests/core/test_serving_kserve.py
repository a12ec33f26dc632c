"""KServe v2 over HTTP, driven by Triton's own client and by hand: every datatype, both forms, and hostile requests."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from kserve_parts import KINDS, every_datatype, served, serving, values_of
from serving_parts import Running, expected, mean_model, running

from toolkit.serving.kserve_tensors import Stated, from_raw, to_raw

http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")

HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(served(every_datatype()), tmp_path_factory.mktemp("site")) as it:
        yield it


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("site")) as it:
        yield it


@pytest.fixture
def client(every: Running) -> Iterator[Any]:
    yield from triton(every)


def triton(server: Running) -> Iterator[Any]:
    found = http.InferenceServerClient(server.url.removeprefix("http://"))
    try:
        yield found
    finally:
        found.close()


def key(server: Running) -> dict[str, str]:
    return {"X-API-Key": server.keys["infer"]}


def inputs_of(binary: bool, rows: int = 2, kinds: Any = tuple(KINDS)) -> list[Any]:
    given = []
    for name in kinds:
        one = http.InferInput(f"in_{name}", [rows, 2], name)
        one.set_data_from_numpy(values_of(name, rows), binary_data=binary or name == "FP16")
        given.append(one)
    return given


def test_health_and_metadata_as_the_real_client_asks(every: Running, client: Any) -> None:
    head = key(every)
    assert client.is_server_live()
    assert client.is_server_ready(headers=head)
    assert client.is_model_ready("tiny", headers=head)
    assert client.is_model_ready("tiny", "1.7", headers=head)
    assert not client.is_model_ready("other", headers=head)
    about = client.get_server_metadata(headers=head)
    assert (about["name"], about["extensions"]) == ("distil-toolkit", ["binary_tensor_data"])
    model = client.get_model_metadata("tiny", headers=head)
    assert (model["name"], model["versions"], model["platform"]) == ("tiny", ["1.7"], "onnxruntime_onnx")
    assert model["parameters"] == {"bundle": "b-123", "form": "installed", "active_provider": "CPUExecutionProvider"}
    assert model["inputs"] == [{"name": f"in_{name}", "datatype": name, "shape": [-1, 2]} for name in KINDS]
    assert [one["datatype"] for one in model["outputs"]] == list(KINDS)
    index = client.get_model_repository_index(headers=head)
    assert index == [{"name": "tiny", "version": "1.7", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_every_datatype_goes_there_and_back(every: Running, client: Any, binary: bool, rows: int) -> None:
    wanted = [http.InferRequestedOutput(f"out_{name}", binary_data=binary or name == "FP16") for name in KINDS]
    found = client.infer("tiny", inputs_of(binary, rows), outputs=wanted, request_id="r-1", headers=key(every))
    assert (found.get_response()["id"], found.get_response()["model_version"]) == ("r-1", "1.7")
    for name in KINDS:
        array = found.as_numpy(f"out_{name}")
        if name == "BYTES" and binary:
            array = np.array([text.decode() for text in array.ravel()], object).reshape(array.shape)
        np.testing.assert_array_equal(array, values_of(name, rows))
        assert array.shape == (rows, 2)


def test_without_outputs_named_all_come_as_bytes_to_the_real_client(every: Running, client: Any) -> None:
    found = client.infer("tiny", inputs_of(True), headers=key(every))
    assert [one["name"] for one in found.get_response()["outputs"]] == [f"out_{name}" for name in KINDS]
    assert all("data" not in one for one in found.get_response()["outputs"])


def test_a_model_of_pictures_answers_as_it_does_elsewhere(pictures: Running) -> None:
    images = np.random.default_rng(3).integers(0, 256, (4, 9, 7, 3), np.uint8)
    for client in triton(pictures):
        one = http.InferInput("image", list(images.shape), "UINT8")
        one.set_data_from_numpy(images)
        for version in ("", "1.7"):
            found = client.infer("tiny", [one], model_version=version, headers=key(pictures))
            np.testing.assert_allclose(found.as_numpy("probabilities"), expected(images), atol=1e-6)
        with pytest.raises(http.InferenceServerException, match="no model is called other") as error:
            client.infer("other", [one], headers=key(pictures))
        assert error.value.status() == "404"
        with pytest.raises(http.InferenceServerException, match="an API key is needed"):
            client.infer("tiny", [one])


def test_only_liveness_needs_no_key(every: Running) -> None:
    for path, status in (("/v2/health/live", 200), ("/v2/health/ready", 401), ("/v2", 401), ("/v2/models/tiny", 401)):
        answer = httpx.get(every.url + path)
        assert answer.status_code == status
        if status != 200:
            assert isinstance(answer.json()["error"], str)


def post(server: Running, body: bytes, path: str = "/v2/models/tiny/infer", **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, content=body, headers={**key(server), **headers}, timeout=20)


def flat(**changes: Any) -> bytes:
    """A request to the model of pictures in JSON."""
    one = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": [1, 2, 3, 4, 5, 6]}
    return json.dumps({"inputs": [one | changes]}).encode()


def test_json_by_hand_flat_or_nested(pictures: Running) -> None:
    for data in ([1, 2, 3, 4, 5, 6], [[[[1, 2, 3], [4, 5, 6]]]]):
        answer = post(pictures, flat(data=data))
        assert answer.status_code == 200, answer.text
        output = answer.json()["outputs"][0]
        assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 2])
        np.testing.assert_allclose(
            [output["data"]], expected(np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)), atol=1e-6
        )
        assert HEADER not in answer.headers


DEEP = b'{"inputs": [{"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "data": ' + b"[" * 100_000
HOSTILE = {
    "no JSON": b"\xff\xfe", "empty": b"", "an array": b"[]", "no inputs": b"{}", "null inputs": b'{"inputs": null}',
    "too deep": DEEP, "a text for a number": flat(data=["1", "2", "3", "4", "5", "6"]),
    "true for a number": flat(data=[True] * 6), "fractions": flat(data=[0.5] * 6), "too large": flat(data=[256] * 6),
    "negative": flat(data=[-1] * 6), "huge": flat(data=[10**400] * 6), "ragged": flat(data=[[1, 2], [3]]),
    "mixed": flat(data=[1, [2], 3, 4, 5, 6]), "objects": flat(data=[{}] * 6), "too few": flat(data=[1]),
    "none": flat(data=[]), "another datatype": flat(datatype="FP32"), "no datatype": flat(datatype="UINT7"),
    "another rank": flat(shape=[6]), "no rows": flat(shape=[0, 1, 2, 3], data=[]),
    "negative shape": flat(shape=[-1, 1, 2, 3]), "huge shape": flat(shape=[2**62, 2**62, 2**62, 3]),
    "shape beyond": flat(shape=[2**70, 1, 2, 3]), "fractional shape": flat(shape=[1.5, 1, 2, 3]),
    "another name": flat(name="picture"), "both forms": flat(parameters={"binary_data_size": 6}),
    "neither form": flat(data=None), "shared memory": flat(parameters={"shared_memory_region": "x"}),
    "twice": json.dumps({"inputs": [json.loads(flat())["inputs"][0]] * 2}).encode(),
    "an output it lacks": flat()[:-1] + b', "outputs": [{"name": "x"}]}',
    "top classes": flat()[:-1] + b', "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]}',
    "a sequence": flat()[:-1] + b', "parameters": {"sequence_id": 7}}',
    "a timeout that is none": flat()[:-1] + b', "parameters": {"timeout": "soon"}}',
    "a lone surrogate": flat().replace(b'"image"', b'"\\ud800"'),
}  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_does_not_fit_is_refused_in_the_protocols_own_form(pictures: Running, body: bytes) -> None:
    answer = post(pictures, body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert 0 < len(answer.json()["error"]) < 600


def test_more_rows_than_one_request_may_have_are_refused_with_the_limit(pictures: Running) -> None:
    answer = post(pictures, flat(shape=[1025, 1, 2, 3], data=[7] * 6150))
    assert (answer.status_code, set(answer.json())) == (413, {"error"})
    assert "1,024 rows, and 1,025 came" in answer.json()["error"]
    many = post(pictures, flat(shape=[40, 1, 2, 3], data=[0, 0, 0, 255, 255, 255] * 40)).json()["outputs"][0]
    assert many["shape"][0] == 40
    assert many["data"][: many["shape"][1]] == many["data"][-many["shape"][1] :]


def raw(head: dict[str, Any], tail: bytes, length: str | None = None) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + tail, {HEADER: str(len(text)) if length is None else length}


def binary(size: Any, **changes: Any) -> dict[str, Any]:
    one = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    return {"inputs": [one | changes]}


@pytest.mark.parametrize(
    "request_",
    [
        raw(binary(6), b"12345"), raw(binary(6), b"1234567"), raw(binary(5), b"12345"), raw(binary(-1), b""),
        raw(binary(2**70), b"123456"), raw(binary("6"), b"123456"), raw(binary(True), b"1"),
        raw(binary(6.0), b"123456"),
        raw(binary(6), b"123456", "0"), raw(binary(6), b"123456", "-5"), raw(binary(6), b"123456", "9" * 30),
        raw(binary(6), b"123456", "x"), raw(binary(6), b"123456", "¹²"),
        (json.dumps(binary(6)).encode() + b"123456", {}),
    ],
)  # fmt: skip
def test_sizes_that_lie_are_refused(pictures: Running, request_: tuple[bytes, dict[str, str]]) -> None:
    body, headers = request_
    answer = httpx.post(
        f"{pictures.url}/v2/models/tiny/infer",
        content=body,
        headers=[(name, value.encode("latin-1", "replace")) for name, value in (key(pictures) | headers).items()],
    )
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["error"], str)


@pytest.mark.parametrize(
    "data", [b"\x01", struct.pack("<I", 9) + b"x", struct.pack("<I", 1) + b"x", struct.pack("<I", 1) + b"\xff" * 2]
)
def test_texts_that_lie_about_their_length_are_refused(every: Running, data: bytes) -> None:
    given = [one for one in inputs_of(True, 1) if one.name() != "in_BYTES"]
    body, size = http.InferenceServerClient.generate_request_body(given)
    head, tail = json.loads(body[:size]), body[size:]
    head["inputs"].append({
        "name": "in_BYTES", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)},
    })  # fmt: skip
    content, headers = raw(head, tail + data)
    answer = post(every, content, **headers)
    assert (answer.status_code, "in_BYTES" in answer.text) == (400, True), answer.text


def test_numbers_that_json_cannot_write_are_asked_for_as_bytes(every: Running, client: Any) -> None:
    given = inputs_of(True, 1)
    odd = http.InferInput("in_FP32", [1, 2], "FP32")
    odd.set_data_from_numpy(np.array([[np.nan, np.inf]], np.float32))
    given = [odd if one.name() == "in_FP32" else one for one in given]
    wanted = http.InferRequestedOutput("out_FP32", binary_data=False)
    with pytest.raises(http.InferenceServerException, match="JSON cannot write it") as error:
        client.infer("tiny", given, outputs=[wanted], headers=key(every))
    assert error.value.status() == "400"
    found = client.infer("tiny", given, headers=key(every))
    np.testing.assert_array_equal(found.as_numpy("out_FP32"), [[np.nan, np.inf]])


def test_values_that_lie_across_borders_are_right_all_the_same(every: Running) -> None:
    """However long the JSON is, what follows it may begin at any byte."""
    for spaces in range(9):
        body, size = http.InferenceServerClient.generate_request_body(inputs_of(True, 3))
        content = body[:size] + b" " * spaces + body[size:]
        answer = post(every, content, **{HEADER: str(size + spaces)})
        assert answer.status_code == 200, answer.text
        found = http.InferenceServerClient.parse_response_body(
            answer.content, header_length=int(answer.headers[HEADER])
        )
        np.testing.assert_array_equal(found.as_numpy("out_FP64"), values_of("FP64", 3))


def test_bytes_are_not_copied() -> None:
    body = bytearray(range(48))
    array = from_raw(Stated("x", "FP32", (2, 3)), memoryview(body)[8:32])
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))
    raw_again = to_raw(array)
    assert np.shares_memory(np.frombuffer(raw_again, np.uint8), array)


def test_a_compressed_body_and_one_too_large_are_refused(pictures: Running) -> None:
    answer = post(pictures, flat(), **{"Content-Encoding": "gzip"})
    assert (answer.status_code, "compressed" in answer.json()["error"]) == (400, True)
    answer = post(pictures, b" " * 25_000_001)
    assert (answer.status_code, "25 MB" in answer.json()["error"]) == (413, True)


def test_who_waits_no_longer_than_it_said_is_told_so(tmp_path: Any) -> None:
    model = served(mean_model()[0])
    with serving(model, tmp_path) as server:
        held = model.queue._thread.submit(time.sleep, 0.5)  # type: ignore[attr-defined]
        answer = post(server, flat()[:-1] + b', "parameters": {"timeout": 50000}}')
        assert (answer.status_code, "0.05 seconds" in answer.json()["error"]) == (504, True)
        held.result()
        assert post(server, flat()).status_code == 200
