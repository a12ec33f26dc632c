"""Teacher `transformers`: a local Hugging Face checkpoint of an image classifier or of a causal language model, or a
language model in a GGUF file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import PlanError
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan
from toolkit.protocols import Teacher, TeacherRecord, TeacherSpec
from toolkit.workspace import file_digest

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
SPEECH = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.jinja")
"""Beside the weights, what decides which tokens a language model reads and writes."""

ALLOWED_LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")


@dataclass(frozen=True)
class TransformersTeacher:
    """A checkpoint as `save_pretrained` writes it: config.json, weights, and a preprocessor_config.json or a tokenizer.
    A language model may lie in a .gguf file instead."""

    name: str = "transformers"
    tasks: frozenset[str] = frozenset({"image_classification", "text_generation"})
    gives: frozenset[str] = frozenset({"response", "features", "text"})

    def record(self, plan: Plan) -> TeacherRecord:
        """The licence is what the checkpoint's own card or LICENSE file states, or the .gguf file itself; without one
        it is unknown."""
        source = _source(plan)
        folder = source if source.is_dir() else source.parent
        name = _config(folder).get("_name_or_path") or folder.name if source.is_dir() else source.stem
        licence = _stated_licence(folder) or ("" if source.is_dir() else _gguf_licence(source))
        text = folder / "LICENSE"
        return TeacherRecord(
            id=f"transformers:{name}",
            licence=licence,
            licence_text=text.read_text(encoding="utf-8", errors="replace") if text.exists() else "",
            distillation="allowed" if licence in ALLOWED_LICENCES else "unknown",
        )

    def fingerprint(self, plan: Plan) -> str:
        source = _source(plan)
        digest = hashlib.sha256()
        files = [source]
        if source.is_dir():
            files = [source / "config.json", *_weights(source)]
            files += _speech(source) if plan.task == "text_generation" else []
        for path in sorted(files):
            digest.update(path.name.encode() + file_digest(path).encode())
        return digest.hexdigest()

    def source(self, plan: Plan) -> Path:
        """The folder, or the .gguf file."""
        return _source(plan)

    def load(self, plan: Plan, classes: Sequence[str]) -> TeacherSpec:
        folder = _source(plan)
        size = _config(folder).get("image_size")
        if isinstance(size, int) and size != plan.teacher.input_size:
            raise PlanError(
                f"the checkpoint {folder} takes pictures of {size} pixels, the plan says {plan.teacher.input_size}",
                hint=f"Use --set teacher.input_size={size}.",
            )
        mean, std = _normalisation(folder)
        return TeacherSpec(
            build=lambda: _build(folder, len(classes)),
            mean=mean,
            std=std,
            describe={"architecture": _config(folder).get("architectures", ["?"])[0], "input_size": size},
        )


def _build(folder: Path, classes: int) -> Any:
    from toolkit_teacher_transformers.network import ImageClassifier

    return ImageClassifier(folder, classes)


def _source(plan: Plan) -> Path:
    folder = plan.teacher.checkpoint
    if folder is None:
        raise PlanError("the teacher transformers needs a checkpoint", hint="--set teacher.checkpoint=FOLDER")
    if folder.suffix.lower() == ".gguf" and not folder.is_dir():
        return _gguf(folder, plan.task)
    if not (folder / "config.json").is_file() or not _weights(folder):
        raise PlanError(
            f"{folder} is no Hugging Face checkpoint: config.json or the weights are missing",
            hint="teacher.checkpoint names a folder as save_pretrained writes it.",
        )
    return folder


def _gguf(file: Path, task: str) -> Path:
    if task != "text_generation":
        raise PlanError(f"{file.name} is a GGUF file: a language model", hint="Name the folder of a checkpoint.")
    if not file.is_file():
        raise PlanError(f"the teacher {file} does not exist", hint="Name a .gguf file or a checkpoint's folder.")
    return file


def _speech(folder: Path) -> list[Path]:
    return [path for pattern in SPEECH for path in folder.glob(pattern) if path.is_file()]


def _weights(folder: Path) -> list[Path]:
    return next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise PlanError(f"{folder / 'config.json'} is not JSON: {error}", hint="Save the checkpoint again.") from error
    return config


def _normalisation(folder: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    path = folder / "preprocessor_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    mean, std = stated.get("image_mean", [0.485, 0.456, 0.406]), stated.get("image_std", [0.229, 0.224, 0.225])
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _stated_licence(folder: Path) -> str:
    """The `license:` line of the model card's front matter, in SPDX spelling where it is a common one."""
    card = folder / "README.md"
    if not card.exists():
        return ""
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
        key, _, value = line.partition(":")
        if key.strip() == "license":
            return _spdx(value.strip())
    return ""


def _gguf_licence(file: Path) -> str:
    """What a .gguf file's own metadata state as general.license (ggml, docs/gguf.md)."""
    try:
        from gguf import GGUFReader

        field = GGUFReader(file).get_field("general.license")
    except (ImportError, ValueError, IndexError):
        return ""  # reading the teacher will say what is missing or broken
    return "" if field is None else _spdx(str(field.contents()))


def _spdx(licence: str) -> str:
    known = {name.lower(): name for name in ALLOWED_LICENCES}
    return known.get(licence.lower(), licence)


@hookimpl
def register_teachers() -> Iterable[Teacher]:
    """Offer the teacher `transformers`."""
    return [TransformersTeacher()]
