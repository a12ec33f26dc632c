"""A language student in forms that onnxruntime-genai runs, made by its builder.

Each is one file with its weights inside, so that a site can load it out of RAM; what the runtime must know besides is
in its `genai_config.json`. The 2 GiB that a protobuf may have bound what can be built.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit.protocols import CompiledForm

CONFIG, MODEL = "genai_config.json", "model.onnx"

HEAD = 16
"""Widths of attention heads that ONNX Runtime's kernel takes are multiples of this."""

LARGEST = 2**31 - 2**20
"""Bytes of one file: a protobuf's own limit, less what its framing may take."""


def language_forms(checkpoint: Path, precisions: Iterable[str], folder: Path) -> Iterator[CompiledForm]:
    """Build the student of a checkpoint for ONNX Runtime's CPU provider, one form after the other.

    Args:
        checkpoint: a folder of save_pretrained, its tokenizer in it.
        precisions: `int4` and `int8` (weights, by blocks of 32), `fp32`.
        folder: where it may work; nothing is left there.

    Raises:
        EnvironmentUnfit, PlanError: as `check_student`; PlanError also where the builder does not know the
            architecture, or a form is too large for one file.
    """
    check_student(checkpoint)
    for precision in precisions:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as aside:
            form = _form(checkpoint, precision, Path(aside))
        yield form


def check_student(checkpoint: Path) -> None:
    """Refuse what cannot be compiled, or would be and then not run, by its config.json alone.

    Raises:
        EnvironmentUnfit: onnxruntime-genai is not installed. PlanError: the runtime does not know such attention.
    """
    if importlib.util.find_spec("onnxruntime_genai") is None:
        raise EnvironmentUnfit(
            "what compiles language models is not installed: onnxruntime-genai",
            hint="pip install 'distil-toolkit[language]'",
        )
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    heads = config.get("num_attention_heads") or 1
    width = config.get("head_dim") or config.get("hidden_size", 0) // heads
    if width % HEAD:
        raise PlanError(
            f"the student's attention heads are {width} wide, and ONNX Runtime runs multiples of {HEAD}",
            hint="Choose a student whose config.json has such a head_dim, or fewer heads, and train it anew.",
        )
    widths = {name: config.get(name) for name in ("hidden_size", "intermediate_size")}
    if alike := [name for name, size in widths.items() if size == config.get("vocab_size")]:
        raise PlanError(
            f"the student's {alike[0]} is the size of its vocabulary: the builder would take such a layer for the head",
            hint=f"Choose a student of another {alike[0]}.",
        )


def _form(checkpoint: Path, precision: str, aside: Path) -> CompiledForm:
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    place = ("", str(checkpoint), str(aside / "made"), precision, "cpu", str(aside / "cache"))
    try:
        with _quiet():
            create_model(*place, **parse_extra_options(*place, []))
    except (NotImplementedError, ValueError, KeyError, AttributeError) as error:
        raise PlanError(
            f"a student of this kind cannot be built in {precision}: {error}",
            hint="Choose a student of a family that onnxruntime-genai builds, such as Llama or Qwen.",
        ) from error
    model = onnx.load(str(aside / "made" / MODEL))  # with its weights, which lie in a file beside it
    size = model.ByteSize()
    if size > LARGEST:
        raise PlanError(
            f"the student has {size / 2**30:.1f} GiB in {precision}, and one file holds less than 2",
            hint="Choose a smaller student, or a smaller precision: --set target.precision=int4",
        )
    config = (aside / "made" / CONFIG).read_bytes()
    return CompiledForm(precision, model.SerializeToString(), {"by": _builder()}, beside={CONFIG: config})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the builder tells of every layer would drown what the line tells. What it calls an error is none where it
    goes on: of layers that stay as they are it says so too."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.ERROR))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _builder() -> str:
    from importlib.metadata import version

    return f"onnxruntime-genai {version('onnxruntime-genai')}"
