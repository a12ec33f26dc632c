"""The student of a language teacher: from a checkpoint, from a config alone, or pruned from the teacher itself; kept as
`save_pretrained` keeps it. It never trains."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from toolkit.errors import PlanError
from toolkit.tasks.text_generation.attending import attends_alone
from toolkit.tasks.text_generation.pruning import pruned
from toolkit.tasks.text_generation.shapes import Target, built, described, parameters_of, shape_for, shape_of


@dataclass(frozen=True)
class Student:
    """A causal language model, and where it comes from, for the report."""

    model: PreTrainedModel
    origin: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        """Tied ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def from_checkpoint(folder: Path) -> Student:
    """The student that lies in a folder, in single precision, with attention that packed samples can be given to.

    Raises:
        PlanError: there is none, or it is damaged.
    """
    check_checkpoint(folder)
    model = whole_model(folder, folder, dtype=torch.float32, attn_implementation="sdpa")
    return Student(attends_alone(model), {"from": "checkpoint", "folder": folder.name})


def whole_model(source: Path, folder: Path, **how: Any) -> PreTrainedModel:
    """The language model that lies in `folder`, with each of its weights as it was saved. transformers would draw by
    lot what is missing, and another one at every reading.

    Args:
        source: what the user named.
        how: further arguments of `from_pretrained`.

    Raises:
        PlanError: it is damaged, or weights are missing.
    """
    try:
        with without_bars():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **how
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PlanError(
            f"{source} cannot be loaded as a language model: {str(error).splitlines()[0]}",
            hint="Fetch it again, or save it again with save_pretrained, its tokenizer beside it.",
        ) from error
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise PlanError(
            f"{source} lacks {len(missing)} of its weights, such as {missing[0]}",
            hint="Fetch it again, or save it again with save_pretrained.",
        )
    return model


def from_config(config: PretrainedConfig | Path, *, seed: int) -> Student:
    """A student with weights by chance, the same for the same seed.

    Args:
        config: or the config.json that states it, or the folder it lies in.

    Raises:
        PlanError: there is none, or it is damaged.
    """
    stated = _stated(config) if isinstance(config, Path) else config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = built(stated, dtype=torch.float32, attn_implementation="sdpa")
    return Student(attends_alone(model), {"from": "config", "type": stated.model_type, "seed": seed})


def _stated(path: Path) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PlanError(
            f"{path} states no language model: {str(error).splitlines()[0]}", hint="Name a config.json, or its folder."
        ) from error
    return config


def from_teacher(teacher: PreTrainedModel, target: Target, calibration: Iterable[Tensor]) -> Student:
    """The teacher's most important parts, no more parameters than `target` says. Nothing is left to chance.

    Args:
        calibration: token ids, as `pruning.pruned` takes them.

    Raises:
        PlanError: the teacher cannot be pruned, or not so far. DataError: there is no calibration text.
    """
    shape_of(teacher.config)
    shape = shape_for(teacher.config, target)
    model, kept = pruned(teacher, shape, calibration)
    origin = {"from": "teacher", "teacher_parameters": parameters_of(teacher.config)}
    return Student(attends_alone(model), origin | described(shape, kept.layers))


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The layer that makes logits of the last hidden states, a teacher's or a student's.

    Raises:
        PlanError: it is none that could be taken apart.
    """
    layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(layer, nn.Linear):
        raise PlanError(
            f"a model of type {model.config.model_type} has no head that could be taken apart",
            hint="Choose another model, or learn from text alone.",
        )
    return layer


def cut_vocabulary(model: PreTrainedModel, vocabulary: int) -> None:
    """Cut the padded rows of embeddings and head, as `preflight.Fit` says.

    Raises:
        PlanError: the model has fewer rows.
    """
    if vocabulary > model.config.vocab_size:
        raise PlanError(
            f"a vocabulary of {model.config.vocab_size:,} cannot be cut to {vocabulary:,}", hint="Choose fewer rows."
        )
    if vocabulary < model.config.vocab_size:
        model.resize_token_embeddings(vocabulary)


def save(student: Student, folder: Path, tokenizer: Any = None) -> None:
    """As safetensors with its config, and the tokenizer beside it where one is given."""
    with without_bars():
        student.model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def has_weights(folder: Path) -> bool:
    """Whether there are any in the folder; a config alone states a student without them."""
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """While transformers reads or writes a model without a bar of its own: the line has one."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where GGUF files are read, the bar is not transformers' own
            yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_checkpoint(folder: Path) -> None:
    """Refuse what is no folder of save_pretrained.

    Raises:
        PlanError: the config or the weights are missing.
    """
    if not has_weights(folder) or not (folder / "config.json").is_file():
        raise PlanError(
            f"{folder} is no Hugging Face checkpoint: config.json or the weights are missing",
            hint="Name a folder as save_pretrained writes it.",
        )
