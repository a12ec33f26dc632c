"""Attention for samples packed into one row, each computed by itself: no mask, and no work between samples.

A mask of the row's length squared is mostly about samples that must not see one another, and its kernels compute all of
it. Here each sample goes through causal attention alone, which is what the mask would have come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from toolkit.tasks.text_generation.packing import Packed

ALONE = "samples_alone"
"""The name under which transformers knows this attention."""


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None,
    samples: Sequence[int] | None = None, **settings: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """As transformers' own SDPA attention, which it is where no `samples` are given.

    Args:
        query, key, value: [1, heads, tokens, width].
        samples: the lengths of those that lie side by side in the row; their sum is `tokens`.

    Returns:
        [1, tokens, heads, width], and no weights.
    """
    if samples is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return whole
    settings |= {"is_causal": True}
    parts = zip(*(torch.split(states, list(samples), dim=2) for states in (query, key, value)), strict=True)
    found = [sdpa_attention_forward(module, q, k, v, None, **settings)[0] for q, k, v in parts]
    return torch.cat(found, dim=1), None


AttentionInterface.register(ALONE, attend)
AttentionMaskInterface.register(ALONE, sdpa_mask)


def attends_alone(model: PreTrainedModel) -> PreTrainedModel:
    """The model with this attention, where its layers hand on what they are told and its own would be SDPA."""
    if model._supports_attention_backend and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(ALONE)
    return model


def laid_out(batch: Packed, model: PreTrainedModel) -> tuple[Packed, dict[str, Any]]:
    """Packed samples as the model takes them, side by side in one row where it attends to each alone, and otherwise
    under a mask; and what to call it with, on its device."""
    if model.config._attn_implementation == ALONE:
        batch = batch.in_one_row()
        # Of four dimensions, and asked by nobody: without it transformers would make a mask of the positions
        given = _places(batch) | {"attention_mask": torch.zeros(1, 1, 1, 1)}
        lengths: dict[str, Any] = {"samples": [len(sample) for sample in batch.samples]}
    else:
        given, lengths = masked(batch, next(model.parameters()).dtype), {}
    return batch, {name: tensor.to(model.device) for name, tensor in given.items()} | lengths


def masked(batch: Packed, dtype: torch.dtype) -> dict[str, Tensor]:
    """`input_ids`, `position_ids` and `attention_mask` as any causal model of transformers takes them.

    The mask is added to the attention's scores, 0 or the lowest number of the model's `dtype`: the form that both its
    eager and its SDPA attention honour.
    """
    unseen = ~torch.from_numpy(batch.attends)
    mask = torch.zeros(unseen.shape, dtype=dtype).masked_fill_(unseen, torch.finfo(dtype).min)
    return _places(batch) | {"attention_mask": mask}


def _places(batch: Packed) -> dict[str, Tensor]:
    return {"input_ids": torch.from_numpy(batch.ids), "position_ids": torch.from_numpy(batch.positions)}
