"""What one language model needs in a process of its own: a prompt in, its whole answer out, and the memory held.

Run as a program, so that neither torch nor another model is in the process that is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.protocols import PredictorFacts
from toolkit.score.measure import measure_latency, process_memory
from toolkit.tasks.text_generation.installed import CompiledFiles, open_installed
from toolkit.text import GenerationRequest, Message


def footprint(model: Path, messages: Sequence[Message], tokens: int) -> dict[str, Any]:
    """Latency, memory, and the tokens of prompt and answer, of the compiled model in a folder, in a fresh process."""
    turns = json.dumps([[message.role, message.content] for message in messages])
    answer = subprocess.run(
        [sys.executable, "-m", __name__, str(model), str(tokens)], input=turns, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    record: dict[str, Any] = json.loads(answer.stdout)
    return record


def _measure(model: Path, messages: tuple[Message, ...], tokens: int) -> dict[str, Any]:
    predictor = open_installed(CompiledFiles(model), PredictorFacts("measured", "", ""), threads=1)
    asked = GenerationRequest("", messages, tokens)
    *_, last = predictor.generate([asked])
    assert last.usage is not None
    sample = measure_latency(lambda: list(predictor.generate([asked])), warmup=1, seconds=5.0)
    return {
        "latency": sample.as_record(),
        "rss": process_memory().metrics()["process_rss"].as_record(),
        "prompt_tokens": last.usage.prompt_tokens,
        "answer_tokens": last.usage.completion_tokens,
    }


if __name__ == "__main__":
    folder, most = sys.argv[1:]
    given = tuple(Message(role, content) for role, content in json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps(_measure(Path(folder), given, int(most))))
