"""Processes that `torchrun` started: who this one is among them, and how they end with one message and one code.

torchrun ends all processes as soon as one leaves with an error. So the first that has an error says it, the others wait
until it is said, and leave with the same code.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from toolkit.distil.processes import ALONE, Processes

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

LAUNCHED, SIZE, LOCAL_SIZE = "TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE"
"""What torchrun sets; the rank torch.distributed reads itself."""

STEP = timedelta(minutes=30)
"""The longest that one process may be ahead of another within a training: the first writes checkpoints in between."""

STAGE = timedelta(days=30)
"""The longest that the others wait while the first prepares, labels or validates. If it ends, they end at once."""

SAYING = timedelta(seconds=30)

FAILED, SAID = "failed", "said"

Say = Callable[[], None]


def several() -> bool:
    """Whether torchrun started this process and others."""
    return LAUNCHED in os.environ and int(os.environ[SIZE]) > 1


def run_together(run: Callable[[Callable[[Say], None]], int]) -> int:
    """Meet the other processes and run; the exit code, which is that of the first process with an error.

    Args:
        run: is handed what it has to say its error by, and returns the exit code.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    backend = "gloo"
    if accelerator is not None and accelerator.type != "mps":  # which no backend serves
        backend = f"cpu:gloo,{accelerator.type}:{dist.get_default_backend_for_device(accelerator.type)}"
    training = PrefixStore("training", store)
    dist.init_process_group(backend, store=training, rank=rank, world_size=size, timeout=STEP)
    code = run(lambda say: _say_once(store, say))
    if code == 0:
        return 0
    if not store.check([SAID]):
        store.set(SAID, str(code))
    return int(store.get(SAID))


def join() -> Processes:
    """This process among those that torchrun started, or alone."""
    if not several():
        return ALONE
    import torch.distributed as dist

    return Processes(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=dist.get_node_local_rank(),
        local_size=int(os.environ[LOCAL_SIZE]),
        control=dist.new_group(backend="gloo", timeout=STAGE),
    )


def _say_once(store: Store, say: Say) -> None:
    """Say it, unless another process has an error to say: then wait until that is said."""
    import torch.distributed as dist

    if store.add(FAILED, 1) == 1:
        say()
    else:
        with contextlib.suppress(dist.DistStoreError):
            store.wait([SAID], SAYING)
