"""From a request to the version that answers it, all of it: a request never sees two.

The product is named by the path, /products/NAME/..., or by a header; one that names none is for the first product.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from toolkit.errors import ToolkitError
from toolkit.serving.answers import error_response
from toolkit.serving.models import Models, ServedModel
from toolkit.serving.shadow import Shadow

PRODUCT, VERSION, SESSION = "x-toolkit-product", "x-toolkit-version", "x-toolkit-session"
"""Headers of a request: which product, which version of those that answer, and what belongs together and is to be
answered by one version while another is on trial. An answer's PRODUCT and VERSION tell who gave it."""
BUNDLE = "x-toolkit-bundle"
SERVED = "served"
"""Where the layers before find the version, in the request's state."""

_PREFIX = re.compile(r"(/products/([^/]+))/.+")


class Dispatch:
    """An ASGI app: the routes of whichever version answers. `shadow` puts some requests to another one as well."""

    def __init__(self, models: Models, shadow: Shadow | None = None) -> None:
        self._models = models
        self._shadow = shadow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            model = self._choose(scope)
        except ToolkitError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"][SERVED] = model
        if self._shadow is not None and (other := self._shadow.other(model)) is not None:
            await self._shadow.answer(model, other, scope, receive, send)
            return
        await model.service.routes(scope, receive, send)

    def _choose(self, scope: Scope) -> ServedModel:
        headers = Headers(scope=scope)
        product = headers.get(PRODUCT)
        if named := _PREFIX.fullmatch(scope["path"]):
            product = named[2]
            scope["root_path"] = scope.get("root_path", "") + named[1]
        key = headers.get(SESSION) or scope["state"]["request_id"]
        return self._models.find(product, headers.get(VERSION), key)


def told_by(model: ServedModel) -> tuple[tuple[str, str], ...]:
    """The headers of an answer that this version gave."""
    facts = model.facts
    return (PRODUCT, facts.product), (VERSION, facts.version), (BUNDLE, facts.id)
