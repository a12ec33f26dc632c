"""A model as an ONNX Runtime session, built from bytes in memory and nothing else.

Used by a site's server and by the build side alike: it needs onnxruntime and numpy, and knows nothing of servers,
bundles or tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from toolkit.errors import EnvironmentUnfit
from toolkit.protocols import HardwareProfile, PredictorFacts, Target, TensorPredictor, Tensors, TensorSpec
from toolkit.serving.refusals import ModelFault

CPU = "CPUExecutionProvider"
NO_FOLDER = "/dev/null/no-folder"

_LARGE_BYTES = 16 * 2**20
"""Inputs above are many times larger inside the graph, and ONNX Runtime keeps what one run took for the next ones. To
give it back may take as long as a run of little work, so ordinary batches are below."""

# ONNX Runtime's errors have no common base but Exception; RuntimeError and ValueError come from its Python wrapper.
RUNTIME_ERRORS = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)


class OnnxPredictor:
    """A `TensorPredictor` over ONNX Runtime.

    Args:
        model: the graph, an ONNX protobuf.
        facts: which model this is; `facts.provider` becomes the execution provider that really runs it.
        threads: threads of one inference; 1 leaves the other cores to other requests.
        providers: execution providers, the wanted one first. Where the CPU is not among them, a graph that
            falls back to the CPU is refused.
        weights: external tensors, by the location that the graph names.
        portable: keep the model's bytes, so that it can be pickled and opened by a worker elsewhere. Never on a site:
            there they are decrypted for the session alone.

    Raises:
        EnvironmentUnfit: the graph does not load here, or not on the wanted provider.
    """

    def __init__(
        self,
        model: bytes,
        *,
        facts: PredictorFacts,
        threads: int = 1,
        providers: Sequence[str] = (CPU,),
        weights: Mapping[str, bytes] | None = None,
        portable: bool = False,
    ) -> None:
        self._session = session_of(model, threads=threads, providers=providers, weights=weights)
        self.facts = dataclasses.replace(facts, provider=self._session.get_providers()[0])
        self.inputs = tuple(map(_spec, self._session.get_inputs()))
        self.outputs = tuple(map(_spec, self._session.get_outputs()))
        self._outputs = [output.name for output in self.outputs]
        self._after_large = _shrinking() if self.facts.provider == CPU else None
        self._parts = (model, facts, threads, tuple(providers), weights) if portable else None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._parts is None:
            raise TypeError("only a portable OnnxPredictor can be pickled")
        return _reopened, self._parts

    def predict(self, inputs: Tensors) -> dict[str, np.ndarray]:
        """Run the model; thread-safe.

        Args:
            inputs: for image_classification `image`, uint8 [n, height, width, 3].

        Returns:
            Every output of the graph by name: `probabilities`, float32 [n, classes].

        Raises:
            ModelFault: the graph cannot take this input, or failed on it.
        """
        large = sum(array.nbytes for array in inputs.values()) > _LARGE_BYTES
        how = self._after_large if large else None
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs), how), strict=True))
        except RUNTIME_ERRORS as error:
            raise ModelFault(
                f"the model failed on its input: {_first_line(error)}", hint="Compare the input with the model's."
            ) from error


def opened(target: Target, profile: HardwareProfile, model: bytes, facts: PredictorFacts) -> TensorPredictor:
    """A session by the target; on a machine that is not its own, a stand-in on the CPU provider (rung 2)."""
    try:
        return target.load(model, profile, facts)
    except EnvironmentUnfit:
        return OnnxPredictor(model, facts=facts, threads=1)


def session_of(
    model: bytes, *, threads: int = 1, providers: Sequence[str] = (CPU,), weights: Mapping[str, bytes] | None = None,
    spinning_us: int = 0,
) -> ort.InferenceSession:  # fmt: skip
    """A session over bytes; the other arguments are those of `OnnxPredictor`.

    Args:
        spinning_us: microseconds for which its threads wait for more work awake. It burns a core that the line's other
            programs need, so only where hundreds of short operators follow each other.

    Raises:
        EnvironmentUnfit: the graph does not load here, or not on the wanted provider.
    """
    ort.disable_telemetry_events()
    options = _options(threads, spinning_us, strict=CPU not in providers)
    if weights:
        # The buffers must live until the session stands; `weights` holds them for the length of this call.
        options.add_external_initializers_from_files_in_memory(
            list(weights), list(weights.values()), [len(data) for data in weights.values()]
        )
    try:
        # ONNX Runtime answers from the CPU, with a warning only, where a provider is missing; and again where
        # one fails while it runs. enable_fallback=0 stops the second, the check below catches the first.
        session = ort.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    except RUNTIME_ERRORS as error:
        raise EnvironmentUnfit(
            f"ONNX Runtime {ort.__version__} cannot load the model on {providers[0]}: {_first_line(error)}",
            hint="Install the onnxruntime version and flavour that the bundle's manifest names.",
        ) from error
    active = session.get_providers()[0]
    if active != providers[0]:
        raise EnvironmentUnfit(
            f"the model would run on {active}, not on {providers[0]}",
            hint="Install the onnxruntime flavour for that device, or choose another target profile.",
        )
    return session


def _spec(node: Any) -> TensorSpec:
    """onnxruntime says `tensor(float)` and a name or None for an axis of any length."""
    kind = str(node.type).removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64", "string": "object"}.get(kind, kind)
    return TensorSpec(node.name, dtype, tuple(axis if isinstance(axis, int) else -1 for axis in node.shape))


def _reopened(
    model: bytes, facts: PredictorFacts, threads: int, providers: Sequence[str], weights: Mapping[str, bytes] | None
) -> OnnxPredictor:
    return OnnxPredictor(model, facts=facts, threads=threads, providers=providers, weights=weights, portable=True)


def _options(threads: int, spinning_us: int, *, strict: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    # A graph may name files beside it, and ONNX Runtime would look for them in the working folder. What it needs is
    # handed to it.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning_us else "0")
    if spinning_us:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(spinning_us))
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _shrinking() -> ort.RunOptions:
    """A run after which the session's memory is what it was before."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
