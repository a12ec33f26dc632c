"""A teacher in a GGUF file says what the model it was written from says, and a student can be cut from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.tasks.text_generation.shapes import Target
from toolkit.tasks.text_generation.students import from_checkpoint, from_teacher, save
from toolkit.tasks.text_generation.teacher import LanguageTeacher, read_teacher

gguf = pytest.importorskip("gguf", reason="gguf is not installed, which writes the file and reads it")
pytest.importorskip("accelerate", reason="accelerate is not installed, without which transformers reads no GGUF file")

TOKENS = ["<|end|>", *"abcdefghijklmnopqrstu", "ab", "Ġ"]
CONFIG = LlamaConfig(
    vocab_size=len(TOKENS), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, rms_norm_eps=1e-5,
    rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"}, bos_token_id=None, eos_token_id=0,
)  # fmt: skip
LAYERS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
OTHERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG).train(False)


@pytest.fixture(scope="module")
def teacher(model: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> LanguageTeacher:
    return read_teacher(written(model, tmp_path_factory.mktemp("gguf") / "tiny.gguf"))


def written(model: LlamaForCausalLM, path: Path) -> Path:
    """As llama.cpp writes a Llama: its own names, and the rows of queries and keys in the order of its rotation."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(CONFIG.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(CONFIG.hidden_size // CONFIG.num_attention_heads)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(TOKENS) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    for name, weight in model.state_dict().items():
        writer.add_tensor(renamed(name), turned(name, weight).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def renamed(name: str) -> str:
    module = name.removesuffix(".weight")
    if module in OTHERS:
        return f"{OTHERS[module]}.weight"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{LAYERS[part]}.weight"


def turned(name: str, weight: Tensor) -> Tensor:
    """transformers turns a head's first half against its second, llama.cpp each row against the next."""
    heads = {"q_proj": CONFIG.num_attention_heads, "k_proj": CONFIG.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()


def test_its_logits_are_those_of_the_model_it_was_written_from(
    teacher: LanguageTeacher, model: LlamaForCausalLM
) -> None:
    ids = torch.arange(24).unsqueeze(0)
    with torch.no_grad():
        wanted, found = model(input_ids=ids).logits, teacher.model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert teacher.vocabulary == len(TOKENS)


def test_its_tokenizer_merges_and_ends_as_the_file_says(teacher: LanguageTeacher) -> None:
    assert teacher.tokenizer("ab c", add_special_tokens=False)["input_ids"] == [22, 23, 3]
    assert teacher.tokenizer.eos_token_id == 0


def test_a_student_cut_from_it_is_read_again_as_it_was_saved(teacher: LanguageTeacher, tmp_path: Path) -> None:
    ids = torch.arange(24).unsqueeze(0)
    student = from_teacher(teacher.model, Target(factor=0.5), [ids])
    save(student, tmp_path, teacher.tokenizer)
    again = from_checkpoint(tmp_path)
    assert again.parameters == student.parameters < sum(p.numel() for p in teacher.model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(again.model(input_ids=ids).logits, student.model(input_ids=ids).logits)
