"""A student from nothing: a tokenizer learnt from the rows, and a Llama of about so many parameters.

For narrow work a few million parameters that count in the words of the work do better than a cut giant, and an answer
takes them milliseconds. Nothing is left to chance: the same rows give the same tokenizer and the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from toolkit.tasks.text_generation.rows import Row

END, TURNS = "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A token begins a turn, and one ends it."""

HEAD = 64
"""Width of an attention head."""

SLIM, BROAD = 24, 64
"""Least and most width for each layer: of students this small, deep and slim ones learn more (MobileLLM, arXiv
2402.14905)."""

DEEPEST, WIDEST = 32, 40


def tokenizer_for(rows: Sequence[Row], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte pairs of prompts and completions, no more than `vocabulary` tokens, each digit by itself: any text can be
    written."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, *TURNS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (text for row in rows for text in (*(message.content for message in row.messages), row.completion))
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token=END, additional_special_tokens=list(TURNS),
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def config_for(parameters: int, vocabulary: int, context: int) -> LlamaConfig:
    """The largest shape of at most `parameters`, embeddings counted once; the smallest there is, where that is more."""
    shapes = [
        (width * HEAD, depth)
        for width in range(1, WIDEST)
        for depth in range(2, DEEPEST)
        if SLIM <= width * HEAD / depth <= BROAD and _size(width * HEAD, depth, vocabulary) <= parameters
    ]
    width, depth = max(shapes, key=lambda shape: (_size(shape[0], shape[1], vocabulary), shape), default=(HEAD, 2))
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=_inner(width, vocabulary), num_hidden_layers=depth,
        num_attention_heads=width // HEAD, head_dim=HEAD, max_position_embeddings=context, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip


def _size(width: int, depth: int, vocabulary: int) -> int:
    return vocabulary * width + depth * (4 * width**2 + 3 * width * _inner(width, vocabulary) + 2 * width) + width


def _inner(width: int, vocabulary: int) -> int:
    """Width inside a layer, eight thirds of it outside; never the vocabulary's size, which builders take for a head."""
    inner = -(-width * 8 // 3 // HEAD) * HEAD
    return inner + HEAD if inner == vocabulary else inner
