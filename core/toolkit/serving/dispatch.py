"""From a request to the version that answers it, all of it: a request never sees two.

The product is named by the path, /products/NAME/..., or by a header; one that names none is for the first product.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from toolkit.errors import ToolkitError
from toolkit.serving.answers import OF_A_PRODUCT, error_response, is_openai
from toolkit.serving.models import Models, ServedModel
from toolkit.serving.shadow import Shadow

PRODUCT, VERSION, SESSION = "x-toolkit-product", "x-toolkit-version", "x-toolkit-session"
"""Headers of a request: which product, which version of those that answer, and what belongs together and is to be
answered by one version while another is on trial. An answer's PRODUCT and VERSION tell who gave it."""
BUNDLE = "x-toolkit-bundle"
SERVED = "served"
"""Where the layers before find the version, in the request's state."""
NAMED = "product"
"""Where that has the product which the path names."""

_NAMED_GROUP = re.compile(r"\(\?P<\w+>")


class Dispatch:
    """An ASGI app: the routes of whichever version answers. `shadow` puts some requests to another one as well."""

    def __init__(self, models: Models, shadow: Shadow | None = None) -> None:
        self._models = models
        self._shadow = shadow

    def before(self, router: Router) -> None:
        """Take from a router of the server's own what none of its routes is for, in one look at the path instead of
        one a route: those of a version are asked most."""
        paths = [route.path_regex.pattern for route in router.routes if isinstance(route, Route)]
        assert len(paths) == len(router.routes), "a route without a path of its own"
        own = re.compile(_NAMED_GROUP.sub("(?:", "|".join(paths)))
        routed = router.middleware_stack

        async def either(scope: Scope, receive: Receive, send: Send) -> None:
            theirs = scope["type"] == "http" and not own.match(scope["path"])
            if theirs and (named := OF_A_PRODUCT.fullmatch(scope["path"])):
                scope["root_path"] = scope.get("root_path", "") + named[1]
                scope["state"][NAMED] = named[2]
                theirs = not is_openai(scope["path"])
            await (self if theirs else routed)(scope, receive, send)

        router.default = self
        router.middleware_stack = either

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            model = self._choose(scope)
        except ToolkitError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        scope["state"][SERVED] = model
        if self._shadow is not None and (other := self._shadow.other(model)) is not None:
            await self._shadow.answer(model, other, scope, receive, send)
            return
        await model.service.routes(scope, receive, send)

    def _choose(self, scope: Scope) -> ServedModel:
        return self._models.find(product_of(scope), Headers(scope=scope).get(VERSION), key_of(Request(scope)))


def product_of(scope: Scope) -> str | None:
    """The product that a request names, by its path before its header."""
    return scope["state"].get(NAMED) or Headers(scope=scope).get(PRODUCT)


def key_of(request: Request) -> str:
    """What a request shares with those that belong together with it, for `Models.find`; its own id where with none."""
    key: str = request.headers.get(SESSION) or request.state.request_id
    return key


def note(request: Request, model: ServedModel) -> None:
    """Have the layers before know that this version answers; for routes that find it themselves."""
    setattr(request.state, SERVED, model)


def told_by(model: ServedModel) -> tuple[tuple[str, str], ...]:
    """The headers of an answer that this version gave."""
    facts = model.facts
    return (PRODUCT, facts.product), (VERSION, facts.version), (BUNDLE, facts.id)
