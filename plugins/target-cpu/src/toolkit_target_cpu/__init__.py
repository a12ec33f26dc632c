"""Hardware target `cpu`: x86-64 and ARM boxes through ONNX Runtime's CPU provider, in fp32 or static int8; language
models through onnxruntime-genai, in fp32, int8 or int4."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import EnvironmentUnfit
from toolkit.hookspecs import hookimpl
from toolkit.protocols import CompiledForm, HardwareProfile, PredictorFacts, Target, TensorPredictor, Tensors

X86, ARM = ("x86_64", "AMD64"), ("aarch64", "arm64")

PROFILES = (
    HardwareProfile("cpu", "cpu", "This kind of machine, one thread a request", (*X86, *ARM)),
    HardwareProfile("edge-x86-2", "cpu", "Industrial PC with two x86-64 cores", X86),
    HardwareProfile("edge-x86-4", "cpu", "Industrial PC with four x86-64 cores", X86, threads=2),
    HardwareProfile("x86-server", "cpu", "x86-64 server", X86, threads=4),
    HardwareProfile("edge-arm64", "cpu", "64-bit ARM board", ARM),
)


@dataclass(frozen=True)
class CpuTarget:
    """Builds on any machine; runs where the profile's architecture is the machine's."""

    name: str = "cpu"

    def profiles(self) -> Iterable[HardwareProfile]:
        return PROFILES

    def compile(
        self, exported: bytes, calibration: Iterable[Tensors], profile: HardwareProfile, folder: Path
    ) -> Iterable[CompiledForm]:
        from toolkit.compile.quantise import quantise_static

        saturates = profile.arch != ARM and not _has_vnni()
        yield CompiledForm(
            "int8",
            quantise_static(exported, calibration, reduce_range=saturates),
            {"weights": "s8 per channel", "activations": "u8", "reduce_range": saturates},
        )
        yield CompiledForm("fp32", exported, {})

    def compile_language(self, checkpoint: Path, profile: HardwareProfile, folder: Path) -> Iterable[CompiledForm]:
        from toolkit.compile.language import language_forms

        return language_forms(checkpoint, ("int4", "int8", "fp32"), folder)

    def load(self, model: bytes, profile: HardwareProfile, facts: PredictorFacts) -> TensorPredictor:
        from toolkit.serving.sessions import OnnxPredictor

        if platform.machine() not in profile.arch:
            raise EnvironmentUnfit(
                f"the profile {profile.name} runs on {', '.join(profile.arch)}, this machine is {platform.machine()}",
                hint="Install the bundle on its own box, or choose --target cpu.",
            )
        return OnnxPredictor(model, facts=facts, threads=profile.threads)


def _has_vnni() -> bool:
    """Whether 8-bit products are accumulated in 32 bits here; unknown counts as not."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@hookimpl
def register_targets() -> Iterable[Target]:
    """Offer the target `cpu` with its profiles."""
    return [CpuTarget()]
