"""Where tensors live: decided at run time, never assumed."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from toolkit.errors import EnvironmentUnfit
from toolkit.plan import ComputePlan

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


def choose_device(compute: ComputePlan) -> torch.device:
    """The plan's device, or the first accelerator this machine has, or the CPU.

    Raises:
        EnvironmentUnfit: the plan names a device that is not here.
    """
    if compute.device != "auto":
        try:
            device = torch.device(compute.device)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise EnvironmentUnfit(
                f"compute.device {compute.device} is not usable here: {str(error).splitlines()[0]}",
                hint="Use --set compute.device=auto.",
            ) from error
        return device
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def prepare_torch(compute: ComputePlan) -> torch.device:
    """Fix threads and determinism for this process, and choose the device."""
    torch.set_num_threads(compute.threads or len(os.sched_getaffinity(0)))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return choose_device(compute)


def moved(record: Record, device: torch.device) -> Record:
    """A dataclass of tensors, or of such records, on that device; None stays None."""
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return replace(record, **{name: value.to(device) for name, value in found.items() if value is not None})
