"""What a task wants otherwise than core does, where neither user nor domain says anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "anomaly_maps": {
        "teacher": {"input_size": 224},
        "student": {"input_size": 224},
        "recipe": {
            "name": "feature-maps", "epochs": 40, "batch_size": 32, "views": 4, "weighting": "even", "baseline": False,
        },
    },
    "text_generation": {
        "teacher": {"name": "transformers"},
        "recipe": {
            "name": "sequence", "epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 0.01,
            "weighting": "even",
        },
    },
}  # fmt: skip
