"""Where tensors live: decided at run time, never assumed."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from toolkit.distil.processes import ALONE, Processes
from toolkit.errors import EnvironmentUnfit
from toolkit.plan import ComputePlan

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

FUSED = ("cpu", "cuda", "mps", "xpu")
"""Devices on which torch takes an optimiser's step in one pass over the weights: on a CPU in a fifth of the time."""


def choose_device(compute: ComputePlan, processes: Processes = ALONE) -> torch.device:
    """The plan's device, or the first accelerator this machine has, or the CPU. Each of several processes has an
    accelerator of its own.

    Raises:
        EnvironmentUnfit: the plan names a device that is not here, or there are fewer than processes.
    """
    if compute.device != "auto":
        device = _usable(compute.device, hint="Use --set compute.device=auto.")
    else:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if not processes.several or device.type == "cpu":
        return device
    if ":" in compute.device:
        raise EnvironmentUnfit(
            f"compute.device {compute.device} is one device, and {processes.size} processes need one each",
            hint=f"Use --set compute.device={device.type}.",
        )
    own = _usable(
        f"{device.type}:{processes.local_rank}",
        hint="Start as many processes as there are devices, or use --set compute.device=cpu.",
    )
    torch.accelerator.set_device_index(own)
    return own


def _usable(name: str, *, hint: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EnvironmentUnfit(
            f"compute.device {name} is not usable here: {str(error).splitlines()[0]}", hint=hint
        ) from error
    return device


def prepare_torch(compute: ComputePlan, processes: Processes = ALONE) -> torch.device:
    """Fix threads and determinism for this process, and choose the device. Processes share out a machine's cores."""
    torch.set_num_threads(compute.threads or max(1, len(os.sched_getaffinity(0)) // processes.local_size))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return choose_device(compute, processes)


def moved(record: Record, device: torch.device) -> Record:
    """A dataclass of tensors, or of such records, on that device; None stays None."""
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return replace(record, **{name: value.to(device) for name, value in found.items() if value is not None})
