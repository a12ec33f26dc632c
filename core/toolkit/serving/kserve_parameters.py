"""What KServe v2's parameters say, by HTTP and by gRPC alike."""

from __future__ import annotations

from toolkit.errors import DataError


def seconds_of(timeout: object) -> float | None:
    """How long a request's parameter `timeout` allows, which Triton has in microseconds; without end where it is 0.

    Raises:
        DataError: it is no such number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 <= timeout < 2**63:
        raise DataError("the parameter timeout is a whole number of microseconds")
    return timeout / 1e6 if timeout else None
