"""What one model needs in a process of its own: a JPEG in, a verdict out, by the clock, and the memory held.

Run as a program, so that nothing but ONNX Runtime and Pillow is in the process that is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from toolkit.protocols import PredictorFacts
from toolkit.score.measure import measure_latency, process_memory
from toolkit.serving.sessions import OnnxPredictor
from toolkit.tasks.image_classification.images import decode_planes


def footprint(model: Path, picture: Path, channels: int) -> dict[str, Any]:
    """Latency and memory of the model file on the picture file, measured in a fresh process, one thread."""
    answer = subprocess.run(
        [sys.executable, "-m", __name__, str(model), str(picture), str(channels)],
        capture_output=True,
        text=True,
        check=True,
    )
    record: dict[str, Any] = json.loads(answer.stdout)
    return record


def _measure(model: bytes, picture: bytes, channels: int) -> dict[str, Any]:
    predictor = OnnxPredictor(model, facts=PredictorFacts("measured", "", ""), threads=1)

    def request() -> int:
        image = decode_planes(picture, channels)
        return int(predictor.predict({"image": image[None]})["probabilities"].argmax())

    sample = measure_latency(request, seconds=3.0)
    return {"latency": sample.as_record(), "rss": process_memory().metrics()["process_rss"].as_record()}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    figures = _measure(Path(arguments[0]).read_bytes(), Path(arguments[1]).read_bytes(), int(arguments[2]))
    sys.stdout.write(json.dumps(figures))
