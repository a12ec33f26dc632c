"""What a token takes, what half precision does to it, what no teacher can have said, and when k is too small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from toolkit.distil.cache.codecs import (
    LOWEST,
    PROBES,
    HiddenCodec,
    Quality,
    TopKCodec,
    bytes_per_token,
    codec_of,
    rest_of,
)
from toolkit.distil.cache.mass import LowMass, advise
from toolkit.errors import IntegrityError, PlanError

K, VOCABULARY, WIDTH = 5, 40, 6


def said(tokens: int, seed: int = 0, *, k: int = K, vocabulary: int = VOCABULARY) -> dict[str, np.ndarray]:
    """The k best of random logits, and the logarithm of the rest, by scipy."""
    logs = log_softmax(np.random.default_rng(seed).normal(0, 3, (tokens, vocabulary)), axis=1)
    order = np.argsort(-logs, axis=1)
    return {
        "indices": order[:, :k],
        "log_probs": np.take_along_axis(logs, order[:, :k], 1),
        "log_rest": logsumexp(np.take_along_axis(logs, order[:, k:], 1), axis=1),
    }


def test_a_token_takes_258_bytes_for_the_64_best_of_smollm2() -> None:
    """64 two-byte indices, 64 two-byte log-probabilities, and two bytes for the rest."""
    assert bytes_per_token(TopKCodec(64, 49_152)) == 64 * 2 + 64 * 2 + 2 == 258
    assert bytes_per_token(HiddenCodec(576, 49_152)) == 1152


@pytest.mark.parametrize(
    ("vocabulary", "wanted"), [(49_152, np.uint16), (65_536, np.uint16), (65_537, np.uint32), (152_064, np.uint32)]
)
def test_indices_take_the_smallest_type_that_the_vocabulary_allows(vocabulary: int, wanted: type) -> None:
    codec = TopKCodec(1, vocabulary)
    last = {"indices": np.array([[vocabulary - 1]]), "log_probs": np.zeros((1, 1)), "log_rest": np.array([-np.inf])}
    stored, _ = codec.encode(last)
    assert stored["indices"].dtype == wanted
    assert int(stored["indices"][0, 0]) == vocabulary - 1


def test_entries_come_back_to_half_precision_and_their_error_is_measured() -> None:
    """binary16 rounds to nearest with 11 significant bits (IEEE 754-2019)."""
    exact = said(50)
    stored, quality = TopKCodec(K, VOCABULARY).encode(exact)
    np.testing.assert_array_equal(stored["indices"], exact["indices"])
    errors = [np.abs(stored[name].astype(float) - exact[name]).ravel() for name in ("log_probs", "log_rest")]
    assert (errors[0] <= np.abs(exact["log_probs"]).ravel() * 2**-11 + 2**-25).all()
    together = np.concatenate(errors)
    assert quality.error_mean == pytest.approx(together.mean())
    assert quality.error_max == pytest.approx(together.max())
    assert quality.measured == 50 * (K + 1)
    assert quality.tokens == 50
    assert quality.mass == pytest.approx(np.exp(exact["log_probs"]).sum(axis=1).mean())


def test_a_small_rest_keeps_its_digits() -> None:
    """A mass of 1e-9 is 0 in half precision; its logarithm is right to 0.1 %."""
    one = {"indices": np.array([[0]]), "log_probs": np.log1p([[-1e-9]]), "log_rest": np.log([1e-9])}
    stored, _ = TopKCodec(1, 10).encode(one)
    assert np.float16(1e-9) == 0
    assert float(stored["log_rest"][0]) == pytest.approx(math.log(1e-9), rel=1e-3)


def test_a_probability_of_nothing_is_kept_as_the_least_there_is() -> None:
    one = {"indices": np.array([[3, 1]]), "log_probs": np.array([[0.0, -np.inf]]), "log_rest": np.array([-np.inf])}
    stored, quality = TopKCodec(2, 10).encode(one)
    assert stored["log_probs"].tolist() == [[0.0, LOWEST]]
    assert quality.error_max == 0
    assert quality.measured == 1


def changed(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return said(4) | arrays


@pytest.mark.parametrize(
    ("exact", "words"),
    [
        (changed(indices=np.full((4, K), VOCABULARY)), "lacks"),
        (changed(indices=np.full((4, K), -1)), "lacks"),
        (changed(indices=np.zeros((4, K), int)), "twice"),
        (changed(log_probs=np.full((4, K), np.nan)), "sum to 1"),
        (changed(log_probs=np.full((4, K), 0.0)), "sum to 1"),
        (changed(log_probs=said(4)["log_probs"] / 2), "sum to 1"),
        (changed(log_rest=np.full(4, np.inf)), "sum to 1"),
        (changed(log_rest=np.zeros(3)), "do not fit"),
        (changed(log_probs=np.zeros((4, K - 1))), "do not fit"),
    ],
)
def test_what_no_teacher_can_have_said_is_refused(exact: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(IntegrityError, match=words) as caught:
        TopKCodec(K, VOCABULARY).encode(exact)
    assert caught.value.hint


def test_a_teacher_that_tells_only_its_best_leaves_the_rest_to_be_worked_out() -> None:
    log_probs = np.log([[0.5, 0.25], [0.9, 0.1], [0.7, 0.3000001]])
    np.testing.assert_allclose(np.exp(rest_of(log_probs)), [0.25, 2**-24, 2**-24], rtol=1e-6)


def test_hidden_states_are_measured_through_the_head() -> None:
    head = np.random.default_rng(1).normal(0, 2, (VOCABULARY, WIDTH)).astype(np.float32)

    def log_probs(hidden: np.ndarray) -> np.ndarray:
        return np.asarray(log_softmax(hidden @ head.T, axis=1))

    hidden = np.random.default_rng(2).normal(0, 3, (3, WIDTH)).astype(np.float32)
    stored, quality = HiddenCodec(WIDTH, VOCABULARY, log_probs).encode({"hidden": hidden})
    assert stored["hidden"].dtype == np.float16
    probed = hidden[:PROBES]
    error = np.abs(log_probs(probed) - log_probs(probed.astype(np.float16).astype(np.float32)))
    assert quality.error_mean == pytest.approx(error.mean())
    assert quality.error_max == pytest.approx(error.max())
    assert 0 < quality.error_max < 0.1
    assert quality.mass == 1
    _, unmeasured = HiddenCodec(WIDTH, VOCABULARY).encode({"hidden": hidden})
    assert (unmeasured.measured, unmeasured.error_max) == (0, 0)


@pytest.mark.parametrize("value", [1e6, np.inf, np.nan])
def test_hidden_states_beyond_half_precision_are_refused(value: float) -> None:
    with pytest.raises(IntegrityError, match="finite"):
        HiddenCodec(WIDTH, VOCABULARY).encode({"hidden": np.full((2, WIDTH), value, np.float32)})


@pytest.mark.parametrize("codec", [TopKCodec(K, VOCABULARY), HiddenCodec(WIDTH, VOCABULARY)])
def test_a_completion_of_no_token_is_kept_as_such(codec: TopKCodec | HiddenCodec) -> None:
    nothing = {one.name: np.zeros((0, *one.shape)) for one in codec.fields}
    nothing |= {"indices": np.zeros((0, K), int)} if isinstance(codec, TopKCodec) else {}
    stored, quality = codec.encode(nothing)
    assert quality == Quality()
    assert all(len(array) == 0 for array in stored.values())


@pytest.mark.parametrize("codec", [TopKCodec(K, VOCABULARY), HiddenCodec(WIDTH, VOCABULARY)])
def test_a_codec_is_told_by_its_record(codec: TopKCodec | HiddenCodec) -> None:
    assert codec_of(codec.as_record()) == codec


@pytest.mark.parametrize(
    "record",
    [{}, {"name": "zip"}, {"name": "topk", "k": 0, "vocabulary": 9}, {"name": "topk", "k": 2**40, "vocabulary": 9},
     {"name": "topk", "k": "5", "vocabulary": 9}, {"name": "hidden", "width": -1, "vocabulary": 9}],
)  # fmt: skip
def test_a_record_of_no_codec_is_refused(record: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        codec_of(record)


def test_quality_over_parts_counts_tokens() -> None:
    """Masses 0.9 over 30 tokens and 1.0 over 10: 0.925."""
    whole = Quality.over([Quality(30, 0.9, 60, 0.1, 0.5), Quality(10, 1.0, 20, 0.3, 0.4), Quality()])
    assert whole == Quality(40, pytest.approx(0.925), 80, pytest.approx(0.15), 0.5)
    assert Quality.over([]) == Quality()


@pytest.mark.parametrize(
    ("mass", "k", "action", "next_k"),
    [
        (1.0, 64, "keep", 64),
        (0.974, 64, "keep", 64),
        (0.95, 64, "keep", 64),
        (0.93, 64, "larger-k", 128),  # 0.07 outside, 0.042 after one doubling
        (0.90, 32, "larger-k", 128),  # 0.1, 0.06, 0.036
        (0.43, 64, "hidden", 64),
        (0.0, 64, "hidden", 64),
    ],
)
def test_advice_follows_the_mass(mass: float, k: int, action: str, next_k: int) -> None:
    found = advise(mass, k, 49_152)
    assert (found.action, found.k) == (action, next_k)
    assert f"{mass:.1%}" in found.why


def test_a_teacher_without_hidden_states_is_asked_for_more_tokens_and_never_for_more_than_there_are() -> None:
    found = advise(0.43, 64, 49_152, hidden=False)
    assert (found.action, found.k) == ("larger-k", 64 * 2**5)  # 0.57 x 0.6^5 = 0.044
    assert advise(0.43, 64, 1000, hidden=False).k == 1000


def test_a_low_mass_is_an_error_that_a_plan_can_act_on() -> None:
    error = LowMass(0.43, 64, 49_152)
    assert isinstance(error, PlanError)
    assert error.exit_code == 2
    assert error.advice.action == "hidden"
    assert "43.0%" in error.message
    assert "hidden states" in error.hint
    assert error.as_record()["action"] == "hidden"
    assert "128 best" in LowMass(0.93, 64, 49_152).hint
