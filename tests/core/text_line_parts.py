"""A text domain of a stranger, a tokenizer of bytes and a tiny student: what it takes to send text down the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

DOMAIN = """
from toolkit.hookspecs import hookimpl
from toolkit.plan import Options, Plan


@hookimpl
def draft_plan(options: Options) -> Plan:
    return Plan(domain=options.domain, task="text_generation")
"""


def text_domain(folder: Path) -> Path:
    """The domain `letters` as a distribution, installed for whoever has `folder` on the path."""
    info = folder / "letters_domain-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "letters_domain.py").write_text(DOMAIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters-domain\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[toolkit.domains]\nletters = letters_domain\n")
    return folder


def student_config(folder: Path, **sizes: int) -> Path:
    """A student of Llama's kind without weights, and its tokenizer of bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(["</s>", *letters])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>").save_pretrained(folder)
    chosen = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} | sizes
    LlamaConfig(vocab_size=257, architectures=["LlamaForCausalLM"], **chosen).save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
