"""The routes of a site's API keys: who has one, a new one, and taking one back. For administrators; each change is
written into the site's signed trail."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from toolkit.errors import UsageError
from toolkit.serving.access import Role, add_key, list_keys, remove_key
from toolkit.serving.bodies import Body
from toolkit.serving.refusals import NotServed
from toolkit.serving.roles import require
from toolkit.site.layout import Site


class KeyIn(Body):
    """The body of POST /site/keys."""

    name: str = Field(max_length=64, description="Who holds the key: a person, a program, a line.")
    role: Role
    rate: str = Field("", max_length=12, description="Most requests: 20/s, 600/m or 1000/h; none where it is empty.")


def add_keys(router: APIRouter, site: Site) -> None:
    """The routes over one site's keys."""
    admin = [Depends(require("admin"))]

    @router.get("/keys", summary="Who has a key, with which role and limit.", dependencies=admin)
    async def keys() -> JSONResponse:
        found = await asyncio.to_thread(list_keys, site.path)
        return JSONResponse({
            "keys": [{"name": k.name, "role": k.role, "rate": k.rate, "created": k.created} for k in found]
        })  # fmt: skip

    @router.post("/keys", summary="Make a key; it is shown this once.", status_code=201, dependencies=admin)
    async def make(body: KeyIn, request: Request) -> JSONResponse:
        secret = await asyncio.to_thread(add_key, site.path, body.name, body.role, body.rate)
        told = {"name": body.name, "role": body.role, "rate": body.rate}
        await asyncio.to_thread(_write_down, site, "access.added", told, request)
        return JSONResponse(told | {"key": secret}, 201)

    @router.delete(
        "/keys/{name}",
        summary="Take a key back; it is refused from its next request on.",
        dependencies=admin,
        responses={404: {"description": "No such key."}},
    )
    async def take_back(name: str, request: Request) -> JSONResponse:
        if all(key.name != name for key in await asyncio.to_thread(list_keys, site.path)):
            raise NotServed(f"no key is named {name[:64]!r}", hint="GET /site/keys lists them.")
        if name == request.state.identity.name:
            raise UsageError("this is the key that asks", hint="Take it back with another one, or on the site itself.")
        await asyncio.to_thread(remove_key, site.path, name)
        await asyncio.to_thread(_write_down, site, "access.removed", {"name": name}, request)
        return JSONResponse({"removed": name})


def _write_down(site: Site, event: str, details: dict[str, Any], request: Request) -> None:
    site.audit.append(event, details | {"by": request.state.identity.name})
