"""The vocabulary loss in chunks against the whole of it by autograd: values, every gradient, and what it holds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from toolkit.distil.cache.codecs import HiddenCodec, TopKCodec
from toolkit.distil.cache.store import Origin, Sample, TokenCache
from toolkit.distil.chunks import HiddenStates, Mix, Tokens, VocabularyLoss, gradient_shares, vocabulary_loss
from toolkit.distil.sequences import IGNORE, TopK, completion_positions, generalised_jsd, top_k_kl
from toolkit.distil.slopes import Room
from toolkit.distil.weighting import LEAST, MOST
from toolkit.errors import DataError, PlanError

N, WIDTH, TEACHER_WIDTH, VOCABULARY, K = 23, 6, 9, 31, 4
KINDS = ("top-k", "hidden", "nobody")
BETAS = (0.0, 0.3, 1.0)


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64, spread: float = 1.0) -> Tensor:
    exact = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (spread * exact).to(dtype)


def states(dtype: torch.dtype = torch.float64) -> Tensor:
    return draw(0, N, WIDTH, dtype=dtype).requires_grad_()


def head(dtype: torch.dtype = torch.float64, *, bias: bool = False) -> nn.Linear:
    made = nn.Linear(WIDTH, VOCABULARY, bias=bias, dtype=dtype)
    with torch.no_grad():
        made.weight.copy_(draw(1, VOCABULARY, WIDTH, spread=2.0))
        if bias:
            made.bias.copy_(draw(2, VOCABULARY))
    return made


def teacher(kind: str, dtype: torch.dtype = torch.float64) -> TopK | HiddenStates | None:
    exact = HiddenStates(draw(3, N, TEACHER_WIDTH, dtype=dtype), draw(4, VOCABULARY, TEACHER_WIDTH, dtype=dtype),
                         draw(5, VOCABULARY, dtype=dtype))  # fmt: skip
    return {"hidden": exact, "top-k": TopK.of_logits(exact.logits(Room()), K), "nobody": None}[kind]


def tokens(kind: str, dtype: torch.dtype = torch.float64, *, weighted: bool = False) -> Tokens:
    labels = torch.randint(0, VOCABULARY, (N,), generator=torch.Generator().manual_seed(6))
    if not weighted:
        return Tokens(labels, teacher(kind, dtype))
    labels[[2, 17]] = IGNORE
    return Tokens(labels, teacher(kind, dtype), draw(7, N, dtype=dtype).abs(), draw(8, N, dtype=dtype).abs())


def whole(logits: Tensor, given: Tokens, mix: Mix, total: float) -> Tensor:
    """The same loss, all tokens at once, by autograd."""
    hard = functional.cross_entropy(logits, given.labels, reduction="none", ignore_index=IGNORE)
    if isinstance(given.teacher, TopK):
        response = top_k_kl(logits, given.teacher, mix.temperature, mix.beta)
    elif given.teacher is not None:
        response = generalised_jsd(logits, given.teacher.logits(Room()), mix.beta, mix.temperature)
    else:
        response = torch.zeros_like(hard)
    ones = torch.ones_like(hard)
    label_weights = ones if given.label_weights is None else given.label_weights
    teacher_weights = ones if given.teacher_weights is None else given.teacher_weights
    sure = ones
    if isinstance(given.teacher, HiddenStates):
        sure = (given.teacher.logits(Room()) / mix.temperature).softmax(dim=-1).amax(dim=-1)
    elif given.teacher is not None:
        sure = given.teacher.log_probs.amax(dim=-1).exp()
    if given.said is not None:
        label_weights = torch.where(given.said, label_weights * sure, label_weights)
    if given.usual is not None:
        teacher_weights = teacher_weights * (sure * response.detach() / given.usual).clamp(LEAST, MOST)
    return (mix.hard_label * label_weights * hard + mix.response * teacher_weights * response).sum() / total


def assert_equal_to_the_whole(
    given: Tokens, mix: Mix, *, chunk: int, bias: bool = False, dtype: torch.dtype = torch.float64, rtol: float = 1e-9
) -> None:
    ours, theirs = (states(dtype), head(dtype, bias=bias)), (states(dtype), head(dtype, bias=bias))
    found = vocabulary_loss(*ours, given, mix, total=40, chunk=chunk)
    wanted = whole(theirs[1](theirs[0]), given, mix, 40)
    torch.testing.assert_close(found.loss, wanted, rtol=rtol, atol=rtol)
    (3 * found.loss).backward()
    (3 * wanted).backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad, rtol=rtol, atol=rtol)
    for mine, other in zip(ours[1].parameters(), theirs[1].parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=rtol, atol=rtol)


MIXES = [Mix(0.3, 0.7, beta, temperature) for beta, temperature in itertools.product(BETAS, (1.0, 2.5))]


@pytest.mark.parametrize("mix", [*MIXES, Mix(1.0, 0.0), Mix(0.0, 1.0, 0.5)], ids=str)
@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_values_and_gradients_are_those_of_the_whole(kind: str, mix: Mix) -> None:
    assert_equal_to_the_whole(tokens(kind), mix, chunk=8)
    assert_equal_to_the_whole(tokens(kind, weighted=True), mix, chunk=8, bias=True)


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_difficulty_and_labels_of_an_unsure_teacher_weigh_as_in_the_whole(kind: str, mix: Mix) -> None:
    said = torch.arange(N) % 3 == 0
    given = tokens(kind, weighted=True)
    for usual in (0.05, 1.3, 60.0, None):
        assert_equal_to_the_whole(replace(given, said=said, usual=usual), mix, chunk=8)
    found = vocabulary_loss(states(), head(), given, mix, total=N, chunk=8)
    assert bool(((found.sure > 0) & (found.sure < 1)).all())
    torch.testing.assert_close(found.difficulty, found.sure * found.response)


@pytest.mark.parametrize("chunk", [1, 5, 22, 23, 24, 1000])
@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_a_chunk_of_any_size_gives_the_same(kind: str, chunk: int) -> None:
    assert_equal_to_the_whole(tokens(kind), Mix(0.5, 0.5), chunk=chunk)


@pytest.mark.parametrize("weighted", [False, True])
def test_labels_alone_need_no_teacher(weighted: bool) -> None:
    assert_equal_to_the_whole(tokens("nobody", weighted=weighted), Mix(0.8, 0.0), chunk=7)


@pytest.mark.parametrize("mix", MIXES, ids=str)
@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_single_precision_agrees_to_its_own_tolerance(kind: str, mix: Mix) -> None:
    assert_equal_to_the_whole(tokens(kind, torch.float32), mix, chunk=8, dtype=torch.float32, rtol=2e-5)


@pytest.mark.parametrize("gap", [20, 55, 70, 95, 110, 1e4])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_a_student_that_is_all_too_sure_gets_a_finite_gradient(kind: str, beta: float, gap: float) -> None:
    """Its other tokens' probabilities end among the least that single precision has, or below."""
    given, mix, slopes = tokens(kind, torch.float32), Mix(0.5, 0.5, beta), []
    for chunked in (True, False):
        weight = torch.full((VOCABULARY, WIDTH), -gap / 2)
        weight[0] = gap / 2
        sure = torch.full((N, WIDTH), 1 / WIDTH)
        both = [weight.requires_grad_(), sure.requires_grad_()]
        loss = (
            vocabulary_loss(sure, weight, given, mix, total=N, chunk=8).loss
            if chunked
            else whole(sure @ weight.T, given, mix, N)
        )
        loss.backward()
        assert torch.isfinite(loss)
        slopes.append([one.grad for one in both])
    for mine, other in zip(*slopes, strict=True):
        assert mine is not None
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5 * gap)


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_the_gradient_by_finite_differences(kind: str) -> None:
    layer = head(bias=True)

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return vocabulary_loss(hidden, layer, tokens(kind), Mix(0.4, 0.6, 0.2, 1.5), total=N, chunk=8).loss

    hidden = states()
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    taken = torch.autograd.grad(loss(hidden, weight, bias), [hidden, layer.weight, layer.bias])
    for place, (at, slope) in enumerate(zip((hidden.detach(), weight, bias), taken, strict=True)):
        for index in [(0,), (at.numel() // 2,), (at.numel() - 1,)]:
            values = []
            for step in (1e-5, -1e-5):
                moved = [one.detach().clone() for one in (hidden, weight, bias)]
                moved[place].view(-1)[index] += step
                values.append(loss(*moved).item())
            assert slope.reshape(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)


class Tied(nn.Module):
    """A model of one layer whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, dtype=torch.float64)
        self.layer = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=torch.float64)
        self.head.weight = self.embedding.weight
        with torch.no_grad():
            self.embedding.weight.copy_(draw(10, VOCABULARY, WIDTH))
            self.layer.weight.copy_(draw(11, WIDTH, WIDTH))
            self.layer.bias.zero_()

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.layer(self.embedding(ids)).tanh()
        return states


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_a_tied_head_and_embedding_add_up(kind: str) -> None:
    ids = torch.randint(0, VOCABULARY, (N,), generator=torch.Generator().manual_seed(12))
    ours, theirs, given, mix = Tied(), Tied(), tokens(kind), Mix(0.5, 0.5)
    vocabulary_loss(ours(ids), ours.head, given, mix, total=N, chunk=8).loss.backward()
    whole(theirs.head(theirs(ids)), given, mix, N).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_micro_batches_accumulate_to_the_batch() -> None:
    given, mix = tokens("top-k", weighted=True), Mix(0.5, 0.5)
    hidden, layer = states(), head()
    vocabulary_loss(hidden, layer, given, mix, total=N).loss.backward()
    parts, apart = states(), head()
    for part in (slice(0, 3), slice(3, 20), slice(20, 20), slice(20, N)):
        vocabulary_loss(parts[part], apart, given.rows(part), mix, total=N).loss.backward()
    torch.testing.assert_close(apart.weight.grad, layer.weight.grad)
    torch.testing.assert_close(parts.grad, hidden.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_each_tokens_own_values_come_along_without_weights(kind: str) -> None:
    given, layer, hidden = tokens(kind, weighted=True), head(), states()
    found = vocabulary_loss(hidden, layer, given, Mix(0.1, 0.2 * (kind != "nobody"), 0.5, 2.0), total=N, chunk=5)
    logits = layer(hidden)
    wanted = functional.cross_entropy(logits, given.labels, reduction="none", ignore_index=IGNORE)
    torch.testing.assert_close(found.hard_label, wanted.detach())
    assert found.hard_label[2] == 0
    if isinstance(given.teacher, HiddenStates):
        wanted = generalised_jsd(logits, given.teacher.logits(Room()), 0.5, 2.0)
        torch.testing.assert_close(found.response, wanted.detach())
    alike = np.zeros(N, dtype=bool)
    if kind != "nobody":
        theirs = teacher("hidden")
        assert isinstance(theirs, HiddenStates)
        alike = logits.detach().numpy().argmax(1) == theirs.logits(Room()).numpy().argmax(1)
        assert 0 < alike.sum() < N
    np.testing.assert_array_equal(found.agrees.numpy(), alike)
    assert not found.hard_label.requires_grad
    assert not found.response.requires_grad


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that anything made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(one.numel() for one in _tensors(made))])
        return made


def _tensors(made: Any) -> list[Tensor]:
    return [one for one in (made if isinstance(made, (tuple, list)) else [made]) if isinstance(one, Tensor)]


@pytest.mark.parametrize("mix", [Mix(0.5, 0.5), Mix(0.5, 0.5, 0.3, 2.0), Mix(0.5, 0.5, 1.0)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_larger_than_a_chunk_of_logits_is_ever_made(kind: str, mix: Mix) -> None:
    hidden, layer, given = states(), head(), tokens(kind)
    mix = mix if kind != "nobody" else Mix(1.0, 0.0)
    with Largest() as seen:
        vocabulary_loss(hidden, layer, given, mix, total=N, chunk=6).loss.backward()
    assert seen.elements <= VOCABULARY * max(6, WIDTH, TEACHER_WIDTH)  # a chunk's logits, or a head
    with Largest() as seen:
        whole(layer(hidden), given, mix, N)
    assert seen.elements == VOCABULARY * N


def counted(work: Callable[[], object]) -> list[str]:
    """Names of the products of matrices that were made."""

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
                made.append(str(function))
            return function(*args, **(kwargs or {}))

    made: list[str] = []
    with Products():
        work()
    return made


def test_what_needs_no_gradient_costs_no_product() -> None:
    """One product a chunk to score; one more for the states, and one more for a head that learns."""
    frozen, free = head().requires_grad_(False), head()
    given, mix = tokens("top-k"), Mix(0.5, 0.5)

    def score(layer: nn.Linear, hidden: Tensor) -> VocabularyLoss:
        return vocabulary_loss(hidden, layer, given, mix, total=N, chunk=N)

    with torch.no_grad():
        assert len(counted(lambda: score(free, states()))) == 1
    assert len(counted(lambda: score(frozen, states()))) == 2
    assert len(counted(lambda: score(free, states()))) == 3
    loss = score(frozen, hidden := states()).loss
    loss.backward()
    assert frozen.weight.grad is None
    assert hidden.grad is not None


def test_nothing_flows_to_the_teacher() -> None:
    exact = teacher("hidden")
    assert isinstance(exact, HiddenStates)
    learning = HiddenStates(exact.states.requires_grad_(), exact.weight.requires_grad_(), exact.bias)
    given = Tokens(tokens("nobody").labels, learning)
    vocabulary_loss(states(), head(), given, Mix(0.5, 0.5), total=N, chunk=8).loss.backward()
    assert exact.states.grad is None
    assert exact.weight.grad is None


def test_a_gradient_is_taken_once() -> None:
    loss = vocabulary_loss(states(), head(), tokens("top-k"), Mix(0.5, 0.5), total=N).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_half_precision_weights_sum_their_gradient_in_single(kind: str) -> None:
    given, mix = tokens(kind, torch.float32), Mix(0.5, 0.5)
    hidden, layer = states(torch.float32), head(torch.float32)
    vocabulary_loss(hidden, layer, given, mix, total=N, chunk=4).loss.backward()
    halved, half = states(torch.bfloat16), head(torch.bfloat16)
    found = vocabulary_loss(halved, half, given, mix, total=N, chunk=4)
    found.loss.backward()
    assert found.loss.dtype == torch.float32
    for mine, other in ((halved.grad, hidden.grad), (half.weight.grad, layer.weight.grad)):
        assert mine is not None
        assert other is not None
        assert mine.dtype == torch.bfloat16
        assert (mine.float() - other).norm() < 0.02 * other.norm()


def test_under_autocast_products_are_in_its_precision_and_sums_are_not() -> None:
    given, mix = tokens("top-k", torch.float32), Mix(0.5, 0.5)
    hidden, layer = states(torch.float32), head(torch.float32)
    exact = vocabulary_loss(hidden, layer, given, mix, total=N).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = vocabulary_loss(hidden, layer, given, mix, total=N, chunk=4).loss
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.01)
    assert found.item() != exact.item()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_no_token_here_but_some_elsewhere_is_nothing() -> None:
    hidden, layer = states(), head()
    given = tokens("top-k").rows(slice(0, 0))
    loss = vocabulary_loss(hidden[:0], layer, given, Mix(0.5, 0.5), total=5).loss
    loss.backward()
    assert loss.item() == 0
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_the_shares_of_the_gradient_are_those_of_autograd(kind: str) -> None:
    given, mix, hidden, layer = tokens(kind, weighted=True), Mix(0.9, 0.1, 0.5, 2.0), states(), head(bias=True)
    found = gradient_shares(hidden, layer, given, mix, sample=10)
    norms = []
    for alone in (Mix(0.9, 0.0), Mix(0.0, 0.1, 0.5, 2.0)):
        few = hidden.detach()[:10].requires_grad_()
        (slope,) = torch.autograd.grad(whole(layer(few), given.rows(slice(0, 10)), alone, 1), few)
        norms.append(slope.norm().item())
    assert found == {
        "hard-label": pytest.approx(norms[0] / sum(norms)), "response": pytest.approx(norms[1] / sum(norms))
    }  # fmt: skip
    assert layer.weight.grad is None
    with torch.no_grad():
        assert gradient_shares(hidden, layer, given, mix, sample=10) == found


def test_a_batch_of_a_causal_model_end_to_end() -> None:
    """Labels with prompts and padding, through the shift, to the loss that the shifted logits have."""
    labels = torch.randint(0, VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(13))
    labels[0, :5], labels[1, 6:], labels[2, :1] = IGNORE, IGNORE, IGNORE
    hidden, layer = draw(14, 3, 8, WIDTH).requires_grad_(), head()
    places = completion_positions(labels)
    count = len(places.targets)
    found = vocabulary_loss(places.take(hidden), layer, Tokens(places.targets), Mix(1.0, 0.0), total=count, chunk=4)
    wanted = functional.cross_entropy(layer(hidden)[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    torch.testing.assert_close(found.loss, wanted)


def through_a_cache(root: Path, codec: TopKCodec | HiddenCodec, exact: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What a cache gives back of three samples, one after the other."""
    cache = TokenCache.open(root, Origin("tiny", "a" * 64, "b" * 64), codec)
    parts = {"a": slice(0, 5), "b": slice(5, 5), "c": slice(5, N)}
    cache.write(
        (Sample(one, {name: array[part].numpy() for name, array in exact.items()}) for one, part in parts.items()),
        enough=0,
    )
    return dict(cache.read_many(list(parts)))


@pytest.mark.parametrize("kind", ["top-k", "hidden"])
def test_a_student_learns_the_same_from_a_cache_as_from_its_teacher(tmp_path: Path, kind: str) -> None:
    """But for what half precision takes."""
    given, mix = tokens(kind, torch.float32), Mix(0.3, 0.7)
    if isinstance(given.teacher, TopK):
        arrays = through_a_cache(tmp_path, TopKCodec(K, VOCABULARY), vars(given.teacher))
        kept: TopK | HiddenStates = TopK.of_arrays(arrays)
    else:
        assert isinstance(given.teacher, HiddenStates)
        arrays = through_a_cache(tmp_path, HiddenCodec(TEACHER_WIDTH, VOCABULARY), {"hidden": given.teacher.states})
        kept = replace(given.teacher, states=torch.from_numpy(arrays["hidden"]))
    slopes = []
    for said in (given, replace(given, teacher=kept)):
        hidden = states(torch.float32)
        vocabulary_loss(hidden, head(torch.float32), said, mix, total=N, chunk=8).loss.backward()
        assert hidden.grad is not None
        slopes.append(hidden.grad)
    assert 0 < (slopes[1] - slopes[0]).norm() < 0.003 * slopes[0].norm()


def test_what_does_not_fit_is_refused_before_the_work() -> None:
    hidden, layer, given, mix = states(), head(), tokens("top-k"), Mix(0.5, 0.5)
    with pytest.raises(PlanError, match="22 states"):
        vocabulary_loss(hidden[1:], layer, given, mix, total=N)
    with pytest.raises(PlanError, match="no teacher"):
        vocabulary_loss(hidden, layer, tokens("nobody"), mix, total=N)
    other = HiddenStates(torch.zeros(N, 2), torch.zeros(VOCABULARY + 1, 2))
    with pytest.raises(PlanError, match="31 tokens"):
        vocabulary_loss(hidden, layer, Tokens(given.labels, other), mix, total=N)
    with pytest.raises(PlanError, match="the token 31"):
        vocabulary_loss(hidden, layer, Tokens(torch.full((N,), VOCABULARY)), Mix(1, 0), total=N)
    with pytest.raises(PlanError, match="chunk of 0"):
        vocabulary_loss(hidden, layer, given, mix, total=N, chunk=0)
    with pytest.raises(DataError):
        vocabulary_loss(hidden, layer, given, mix, total=0)
    with pytest.raises(PlanError, match="beta"):
        Mix(0.5, 0.5, 2.0)
    with pytest.raises(PlanError, match="temperature"):
        Mix(0.5, 0.5, 0.0, 0.0)
