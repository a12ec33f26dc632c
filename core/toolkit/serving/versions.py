"""The site's own routes: which versions there are, and installing, promoting and rolling them back.

They change the site, as the command line does, and the server follows it as it follows the command line.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from toolkit.errors import IntegrityError, Refused, ToolkitError
from toolkit.seal.canonical import utc_now
from toolkit.seal.custody import Unlock
from toolkit.seal.manifest import ENVELOPE
from toolkit.seal.verify import read_head
from toolkit.serving.bodies import Body
from toolkit.serving.refusals import NotServed
from toolkit.serving.roles import require
from toolkit.serving.trial import summed
from toolkit.site.install import Check, InstalledVersion, install, permille_of
from toolkit.site.layout import Site, open_site
from toolkit.site.rollback import promote, rollback
from toolkit.site.standing import TRIAL
from toolkit.site.state import ALL, State, read_state, versions_of
from toolkit.workspace import write_file

INCOMING = "incoming"
"""The folder of a site in which bundles lie that may be installed by a route."""

NOTE_SECONDS = 5.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Share = Annotated[float, Field(ge=0, le=1, description="Of the requests; 1 is all of them.")]


class Promote(Body):
    share: Share = 1.0


class RollBack(Body):
    product: str | None = None
    to: str | None = None


class Install(Body):
    name: str
    share: Annotated[float, Field(gt=0, le=1, description="Less than 1 puts it on trial.")] = 1.0


@dataclass(frozen=True)
class Versions:
    """What the routes work on.

    Args:
        check: what plugins have against a bundle.
        workers: what each worker of the server told of itself: `serving`, `failed` and `tallies`, by bundle id.
    """

    folder: Path
    passphrase: Unlock
    check: Check
    workers: Callable[[], list[Mapping[str, Any]]]

    def site(self) -> Site:
        return open_site(self.folder, self.passphrase)

    def listed(self) -> list[dict[str, Any]]:
        """`state.versions_of`, with what the server says of each version: `metrics`, and a `state` of loading or failed
        where a worker does not serve what the site names, or not yet with the share that the site names."""
        site = self.site()
        return beside_workers(read_state(site.current, site.key_id), self.workers())

    def incoming(self) -> list[dict[str, Any]]:
        site = self.site()
        state = read_state(site.current, site.key_id)
        found: list[dict[str, Any]] = []
        for folder in sorted(path for path in (self.folder / INCOMING).glob("*") if (path / ENVELOPE).is_file()):
            try:
                manifest = read_head(folder, site.trust).manifest
            except ToolkitError as error:
                found.append({"name": folder.name, "problem": error.message})
            else:
                found.append({
                    "name": folder.name, "bundle": manifest.bundle_id, "product": manifest.product,
                    "version": manifest.number, "sealed": manifest.created,
                    "kept": state.find(manifest.bundle_id) is not None,
                })  # fmt: skip
        return found

    def install(self, name: str, share: float, by: str) -> InstalledVersion:
        folder = self.folder / INCOMING / name
        if not _NAME.fullmatch(name) or not folder.is_dir():
            raise NotServed(f"no bundle {name[:100]!r} lies in {INCOMING}", hint="GET /site/incoming lists them.")
        try:
            return install(folder, self.site(), check=self.check, permille=permille_of(share), by=by)
        except IntegrityError as error:  # a bad bundle is no fault of the server
            raise Refused(error.message, hint=error.hint) from error

    def note(self) -> None:
        """Leave how the versions compare for `toolkit status` in the site's folder, as long as one is on trial."""
        path = self.folder / TRIAL
        products = self.listed()
        if any(version["state"] == "canary" for product in products for version in product["versions"]):
            write_file(path, json.dumps({"time": utc_now(), "products": products}, ensure_ascii=False).encode())
        else:
            path.unlink(missing_ok=True)

    async def go_on_noting(self) -> None:
        """`note` again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            try:
                await asyncio.to_thread(self.note)
            except ToolkitError as error:
                sys.stderr.write(f"warning: {error}\n")


def beside_workers(state: State, workers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The versions of a site as a server has them."""
    workers = list(workers)
    products = versions_of(state)
    for version in (version for product in products for version in product["versions"]):
        bundle_id = version["bundle"]
        tallies = [worker["tallies"][bundle_id] for worker in workers if bundle_id in worker.get("tallies", {})]
        version["metrics"] = summed(tallies) if tallies else None
        if version["state"] in ("serving", "canary"):
            why = next((worker["failed"][bundle_id] for worker in workers if bundle_id in worker["failed"]), None)
            if why is not None:
                version |= {"state": "failed", "why": why}
            elif not all(_follows(worker, bundle_id, version["share"]) for worker in workers):
                version["state"] = "loading"
    return products


def _follows(worker: Mapping[str, Any], bundle_id: str, share: float) -> bool:
    """Whether a worker answers by this version as the site says; of one that failed there, others have the share."""
    permille = worker["serving"].get(bundle_id)
    return permille is not None and (bool(worker["failed"]) or permille == round(share * ALL))


def version_routes(versions: Versions) -> APIRouter:
    """`/site/versions`, `/site/rollback`, `/site/incoming` and `/site/install`; what changes the site needs the role
    admin, and is in the site's trail with the name of the key that asked for it."""
    routes = APIRouter(prefix="/site", tags=["site"])
    operate, admin = [Depends(require("operate"))], [Depends(require("admin"))]

    @routes.get("/versions", dependencies=operate, summary="The versions of each product, and how they compare.")
    async def list_versions() -> dict[str, Any]:
        return {"products": await asyncio.to_thread(versions.listed)}

    @routes.post(
        "/versions/{bundle}/promote", dependencies=admin, summary="Give a kept version a share of the requests, or all."
    )
    async def promote_version(bundle: str, body: Promote, request: Request) -> dict[str, Any]:
        by, permille = request.state.identity.name, permille_of(body.share)
        return _done(await asyncio.to_thread(lambda: promote(versions.site(), bundle, permille=permille, by=by)))

    @routes.post("/rollback", dependencies=admin, summary="End a trial, or go back to a kept version.")
    async def roll_back(body: RollBack, request: Request) -> dict[str, Any]:
        by = request.state.identity.name
        return _done(await asyncio.to_thread(lambda: rollback(versions.site(), body.to, product=body.product, by=by)))

    @routes.get("/incoming", dependencies=operate, summary="Bundles that lie in the site's folder `incoming`.")
    async def list_incoming() -> dict[str, Any]:
        return {"bundles": await asyncio.to_thread(versions.incoming)}

    @routes.post("/install", dependencies=admin, summary="Install one of them, for all requests or on trial.")
    async def install_bundle(body: Install, request: Request) -> dict[str, Any]:
        by = request.state.identity.name
        return _done(await asyncio.to_thread(versions.install, body.name, body.share, by))

    return routes


def _done(done: InstalledVersion) -> dict[str, Any]:
    return {"bundle": done.bundle_id, "product": done.manifest.product, "changed": done.changed}
