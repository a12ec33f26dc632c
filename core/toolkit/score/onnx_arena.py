"""The peak activation arena of an ONNX Runtime session on the CPU, as the runtime itself accounts for it.

With profiling on, ONNX Runtime (1.32; pull request 29058) writes beside every node how many bytes are requested of its
arena; another account (`session.collect_node_memory_stats_to_file`) lists the scratch each kernel took. The peak of a
run is the highest of both together, less what lay in the arena before the first node, which is weights.

Two figures that look nearer are not taken. The arena's own peak includes the packing of weights while the session was
made. Its bytes *in use* count whole chunks, up to twice what was asked for, by luck of the arena's growth; on an arena
set up to hand out exact chunks they agree with the figure taken here (tests/core/test_score_onnx_cost.py).

This module refuses to know what is done with the figure.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime as ort
from numpy.typing import NDArray

from toolkit.errors import EnvironmentUnfit

Feeds: TypeAlias = Mapping[str, NDArray[Any]]

ERRORS_ONLY = 3  # ONNX Runtime's log level
CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class ArenaPeak:
    """The arena of one run, in bytes: `activations` is what tensors and kernels had asked for at the worst moment,
    weights left out; `held` what the arena had taken from the system, for whatever purpose."""

    activations: int
    held: int


def arena_peak(model: bytes, feeds: Feeds) -> ArenaPeak:
    """The arena of one run in a fresh one-thread session. The same model gives the same figures.

    Raises:
        EnvironmentUnfit: an ONNX Runtime that does not write these accounts.
    """
    with tempfile.TemporaryDirectory(prefix="toolkit-profile-") as folder:
        options = _one_thread()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        options.add_session_config_entry("session.collect_node_memory_stats_to_file", f"{folder}/nodes.csv")
        # A pattern would merge the tensors of later runs into one block and hide what each node asks for.
        options.enable_mem_pattern = False
        session = ort.InferenceSession(model, options, providers=[CPU])
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
        scratch = _scratch(Path(folder) / "nodes.csv")
    nodes = [event for event in events if "mem_bytes_requested_in_use" in event.get("args", {})]
    if not nodes:
        raise EnvironmentUnfit(
            f"ONNX Runtime {ort.__version__} does not account for its memory arena",
            hint="Install onnxruntime 1.32 or newer.",
        )
    first = nodes[0]["args"]
    resident = int(first["mem_bytes_requested_in_use"]) - int(first["mem_requested_in_use_delta"])
    return ArenaPeak(
        activations=max(_at_node(event, scratch) for event in nodes) - resident,
        held=max(int(event["args"]["mem_arena_held"]) for event in nodes),
    )


def one_thread_session(model: bytes) -> ort.InferenceSession:
    """A session on the CPU that runs node after node in the calling thread."""
    return ort.InferenceSession(model, _one_thread(), providers=[CPU])


def _one_thread() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERRORS_ONLY
    return options


def _scratch(path: Path) -> dict[str, int]:
    """Scratch bytes by node; of nodes that share a name (`name_hash` without the hash), the most."""
    scratch: dict[str, int] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = row["#name"].rpartition("_")[0]
            scratch[name] = max(scratch.get(name, 0), int(row["total_temp_allocations"]))
    return scratch


def _at_node(event: Mapping[str, Any], scratch: Mapping[str, int]) -> int:
    """Bytes asked for while a node ran, its inputs still alive: never more than the arena's peak up to then, which is
    also taken for a node whose scratch was not listed."""
    account = event["args"]
    peak = int(account["mem_in_use_peak"])
    # A node without a name goes by its operator in one account, and by operator and number in the other.
    taken = scratch.get(event["name"].removesuffix("_kernel_time"), scratch.get(account["op_name"]))
    return peak if taken is None else min(peak, int(account["mem_bytes_requested_in_use"]) + taken)
