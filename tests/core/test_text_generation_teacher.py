"""A local language teacher: what the cache holds is what a direct forward pass says, said once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distil_parts import one_thread
from executor_parts import Backwards
from scipy.special import log_softmax, logsumexp
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import CohereConfig, CohereForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from toolkit.distil.cache.mass import LowMass
from toolkit.distil.chunks import HiddenStates
from toolkit.distil.sequences import TopK, completion_positions
from toolkit.distil.slopes import Room
from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.tasks.text_generation.attending import masked
from toolkit.tasks.text_generation.packing import packed
from toolkit.tasks.text_generation.rows import Row
from toolkit.tasks.text_generation.teacher import LanguageTeacher, batches_of, label, label_as_needed, read_teacher
from toolkit.tasks.text_generation.tokens import Tokenised, tokenise
from toolkit.text import Message

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
WORDS = ["</s>", "<unk>", "###", "Instruction", ":", "Response", *NUMBERS]
GGUF_READERS = ("gguf", "accelerate")


def save_teacher(folder: Path, **config: Any) -> Path:
    """A random Llama with a tokenizer of words."""
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(WORDS))}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=24, **(sizes | config)))
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a teacher that is sure of something
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def teacher(folder: Path) -> LanguageTeacher:
    return read_teacher(folder, name="tiny")


@pytest.fixture(scope="module")
def samples(teacher: LanguageTeacher) -> tuple[Tokenised, ...]:
    rows = [
        Row(f"r{n}", (Message("user", " ".join(WORDS[6 : 7 + n])),), " ".join(WORDS[6 + n : 9 + 2 * n % 5 + n]))
        for n in range(6)
    ]
    return tokenise(rows, teacher.tokenizer, max_tokens=64).samples


def direct(teacher: LanguageTeacher, sample: Tokenised) -> np.ndarray:
    """Log-probabilities [learnt, 24] by the model's own forward pass of this sample alone, and scipy."""
    with torch.no_grad():
        logits = teacher.model(input_ids=torch.tensor([sample.ids])).logits[0]
    return np.asarray(log_softmax(logits.double().numpy(), axis=-1)[sample.prompt - 1 : -1])


@pytest.mark.parametrize("codec", ["topk", "hidden"])
def test_the_shards_are_the_same_whoever_runs_the_teacher(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path, codec: Any
) -> None:
    workers = Backwards()
    with one_thread():
        here = label(teacher, samples, tmp_path / "here", codec=codec, k=5, enough=0, batch_tokens=20)
        there = label(
            teacher, samples, tmp_path / "there", codec=codec, k=5, enough=0, batch_tokens=20, workers=workers
        )
    assert len(workers.pieces) > 2
    names = sorted(path.name for path in here.folder.iterdir())
    assert names == sorted(path.name for path in there.folder.iterdir())
    for name in names:
        assert (here.folder / name).read_bytes() == (there.folder / name).read_bytes()


def test_the_top_k_cache_holds_what_a_direct_forward_says(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    cache = label(teacher, samples, tmp_path, k=5, enough=0, batch_tokens=40, report=lambda *now: told.append(now))
    assert cache.complete
    assert told[-1] == ("label", 6, 6)
    masses = []
    for sample in samples:
        exact, found = direct(teacher, sample), cache.read(sample.digest)
        best = np.sort(exact, axis=1)[:, ::-1]
        masses.append(np.exp(best[:, :5]).sum(axis=1))
        np.testing.assert_allclose(found["log_probs"], best[:, :5], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(np.take_along_axis(exact, found["indices"].astype(int), 1), best[:, :5], atol=1e-4)
        np.testing.assert_allclose(found["log_rest"], logsumexp(best[:, 5:], axis=1), rtol=2e-3, atol=2e-3)
    assert cache.quality.mass == pytest.approx(np.concatenate(masses).mean(), abs=1e-4)
    assert cache.origin["teacher_sha256"] == teacher.sha256


def test_logits_rebuilt_from_the_hidden_cache_are_the_teachers(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    cache = label(teacher, samples, tmp_path, codec="hidden", batch_tokens=40)
    weight, bias = teacher.head
    for sample in samples:
        states = torch.from_numpy(cache.read(sample.digest)["hidden"].astype(np.float32))
        rebuilt = HiddenStates(states, weight, bias).logits(Room()).numpy()
        np.testing.assert_allclose(log_softmax(rebuilt, axis=-1), direct(teacher, sample), atol=0.02)
    assert 0 < cache.quality.error_max < 0.02


def test_entries_stand_in_the_order_in_which_the_losses_find_packed_tokens(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    cache = label(teacher, samples, tmp_path, k=24)
    rows = packed([samples[2:4], samples[:2]], 48)
    found = TopK.of_arrays(cache.read_many([sample.digest for sample in rows.samples]))
    places = completion_positions(torch.from_numpy(rows.labels))
    assert len(found.indices) == len(places.targets)
    with torch.no_grad():
        states = teacher.model.base_model(**masked(rows, torch.float32)).last_hidden_state
        exact = TopK.of_logits(teacher.logits(places.take(states)), 24)
    torch.testing.assert_close(found.log_probs, exact.log_probs, rtol=2e-3, atol=5e-3)


class Interrupted(Exception):
    pass


def test_what_was_labelled_before_a_crash_is_not_asked_again_and_a_changed_row_alone_is(
    teacher: LanguageTeacher, samples: tuple[Tokenised, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    whole = LanguageTeacher.states

    def counted(self: LanguageTeacher, batch: Any) -> Any:
        asked.extend(sample.id for sample in batch)
        return whole(self, batch)

    monkeypatch.setattr(LanguageTeacher, "states", counted)

    def crash(what: str, done: int, total: int) -> None:
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        label(teacher, samples, tmp_path, k=24, batch_tokens=1, report=crash)
    first = list(asked)
    asked.clear()
    cache = label(teacher, samples, tmp_path, k=24, batch_tokens=1)
    assert len(first) == 3
    assert sorted(first + asked) == sorted(sample.id for sample in samples)
    asked.clear()
    changed = Tokenised("r0", (*samples[0].ids[:-1], 7, 0), samples[0].prompt)
    again = label(teacher, [changed, *samples[1:]], tmp_path, k=24)
    assert asked == ["r0"]
    assert again.folder == cache.folder


def test_too_little_mass_is_refused_or_followed_to_more_tokens_or_hidden_states(
    folder: Path, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    flat = read_teacher(folder)
    flat.model.lm_head.weight.data.mul_(0.001)
    with pytest.raises(LowMass):
        label(flat, samples, tmp_path, k=22)
    assert label_as_needed(flat, samples, tmp_path, k=22).codec.as_record()["k"] == 24
    assert label_as_needed(flat, samples, tmp_path, k=3).codec.name == "hidden"


def test_a_head_cut_to_its_vocabulary_says_nothing_of_padding(
    folder: Path, samples: tuple[Tokenised, ...], tmp_path: Path
) -> None:
    cut = read_teacher(folder, vocabulary=20)
    cache = label(cut, samples[:1], tmp_path, k=20)
    found = cache.read(samples[0].digest)
    exact = direct(cut, samples[0])[:, :20]
    exact = exact - logsumexp(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(found["log_probs"], np.sort(exact, axis=1)[:, ::-1], rtol=2e-3, atol=2e-3)


def test_the_longest_samples_come_first_and_batches_keep_to_their_tokens() -> None:
    some = [Tokenised(f"{n}", tuple(range(2, 4 + n)), 1) for n in range(9)]
    batches = list(batches_of(some, 24))
    assert [len(batch[0]) for batch in batches] == sorted((len(batch[0]) for batch in batches), reverse=True)
    assert len(batches[0][0]) == 10
    assert all(len(batch) == 1 or len(batch) * len(batch[0]) <= 24 for batch in batches)
    assert sorted(sample.id for batch in batches for sample in batch) == sorted(sample.id for sample in some)


def test_teachers_that_cannot_be_read_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no Hugging Face checkpoint"):
        read_teacher(tmp_path)
    with pytest.raises(PlanError, match="does not exist"):
        read_teacher(tmp_path / "none.gguf")
    capped = CohereForCausalLM(
        CohereConfig(
            vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
            logit_scale=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    with torch.no_grad():
        capped.model.embed_tokens.weight.mul_(50)
    save_teacher(tmp_path / "capped")
    (tmp_path / "capped" / "model.safetensors").unlink()
    capped.save_pretrained(tmp_path / "capped")
    with pytest.raises(PlanError, match="more than its head's product"):
        read_teacher(tmp_path / "capped")


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 60)
    return path


@pytest.mark.skipif(all(map(importlib.util.find_spec, GGUF_READERS)), reason="what reads a GGUF file is installed")
def test_a_gguf_file_without_the_packages_that_read_it_tells_what_to_install(gguf_file: Path) -> None:
    with pytest.raises(EnvironmentUnfit) as error:
        read_teacher(gguf_file)
    missing = [name for name in GGUF_READERS if importlib.util.find_spec(name) is None]
    assert f"pip install {' '.join(missing)}," in error.value.hint
