"""What a key's role lets it do, as a dependency of routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from toolkit.serving.access import Role
from toolkit.serving.refusals import Forbidden


def require(role: Role) -> Callable[[Request], Awaitable[None]]:
    """A dependency for routes that not every key may use."""

    async def check(request: Request) -> None:
        identity = request.state.identity
        if not identity.may(role):
            raise Forbidden(
                f"the role {identity.role} may not do this", hint=f"Use a key with the role {role} or above."
            )

    return check
