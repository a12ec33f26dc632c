"""The messages of kserve.proto, read from the descriptors that were compiled of it.

In a pool of their own: Triton's client registers messages of the same names in the global one, and a process may be
both, client and server. Nothing is generated that would tie this package to one version of protobuf.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
COMPILED = "kserve.binpb"


@cache
def _pool() -> Any:
    """Raises where the package is damaged; nothing that a client sends can."""
    found = descriptor_pb2.FileDescriptorSet.FromString(files("toolkit.serving").joinpath(COMPILED).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return pool


@cache
def message(name: str) -> Any:
    """The class of a message by its name in the package `inference`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


def methods() -> tuple[str, ...]:
    """The names of the service's methods, each of which takes NAMERequest and gives NAMEResponse."""
    return tuple(method.name for method in _pool().FindServiceByName(SERVICE).methods)
