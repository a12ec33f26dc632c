"""The console's routes: signing in and out, and one page each for what people do on a site.

A page is rendered here with what is known at this moment; what moves, its script fetches from the site's own routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from toolkit.serving.access import Identity, Role
from toolkit.serving.answers import KSERVE, OPENAI
from toolkit.serving.console.assets import Assets, read_assets
from toolkit.serving.console.catalogue import LANGUAGES, Catalogue, chosen_language, own_catalogues
from toolkit.serving.console.door import (
    CONSOLE,
    LANGUAGE,
    SIGN_IN,
    Door,
    is_own_origin,
    is_secure,
    renewal,
    set_cookie,
)
from toolkit.serving.console.panels import Panels, ReadPanel, environment
from toolkit.serving.console.showing import gate_of
from toolkit.serving.models import Models, ServedModel
from toolkit.serving.refusals import Forbidden, NotServed

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
THEMES = ("light", "dark")
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class Place:
    """A page of the console, and who may open it."""

    name: str
    path: str
    role: Role


PLACES = (
    Place("home", CONSOLE, "infer"),
    Place("workbench", f"{CONSOLE}/workbench", "infer"),
    Place("versions", f"{CONSOLE}/versions", "operate"),
    Place("review", f"{CONSOLE}/review", "operate"),
    Place("audit", f"{CONSOLE}/audit", "operate"),
    Place("keys", f"{CONSOLE}/keys", "admin"),
)


@dataclass(frozen=True)
class Console:
    """What the pages are made of. `since` is when the server began, in seconds since 1970."""

    models: Models
    door: Door
    since: int
    panels: Panels = field(default_factory=Panels)
    assets: Assets = field(default_factory=lambda: read_assets(files(__package__).joinpath("static")))
    templates: jinja2.Environment = field(
        default_factory=lambda: environment(jinja2.PackageLoader(__package__ or "", "templates"))
    )

    def page(self, request: Request, name: str, place: str, status: int = 200, **more: Any) -> Response:
        """A rendered page, with the session renewed where it is time."""
        texts = language_of(request)
        state, identity = request.state, getattr(request.state, "identity", None)
        session = getattr(state, "session", None)
        shown = {
            "t": texts, "language": texts.language, "languages": LANGUAGES, "theme": theme_of(request),
            "identity": identity, "csrf": session.csrf if session else "", "place": place,
            "places": [one for one in PLACES if identity and identity.may(one.role)],
            "static": f"{CONSOLE}/static/{self.assets.digest}", "here": request.url.path,
            "routes": sorted(path for path in paths_of(request) if path.startswith("/site/")) if identity else [],
            "product": self._title() if identity else "", "quote": lambda text: quote(text, safe=""),
        }  # fmt: skip
        html = self.templates.get_template(f"{name}.html.j2").render(shown | more)
        headers = {"content-security-policy": POLICY, "vary": "Cookie, Accept-Language"}
        answer = Response(html, status, headers, media_type="text/html")
        secure = is_secure(request.scope, request.headers)
        if cookie := renewal(self.door.sessions, session, secure=secure):
            answer.headers.append("set-cookie", cookie)
        return answer

    def benches(self, request: Request) -> list[dict[str, Any]]:
        """The workbench's pages for whoever asks: the panels of each product; none where no domain brings one."""
        identity, language = request.state.identity, language_of(request).language
        return [
            {"model": model.facts, "name": panel.name, "title": panel.texts(language)("title")}
            for model in self.products().values()
            for panel in self.panels.of(model)
            if identity.may(panel.role)
        ]

    def model_named(self, product: str) -> ServedModel:
        """Whoever stands for a product, whether its grant holds or not. Raises NotServed."""
        try:
            return self.products()[product]
        except KeyError as error:
            raise NotServed(
                f"no model is called {product}", hint="Open the workbench to see which there are."
            ) from error

    def products(self) -> dict[str, ServedModel]:
        """One version of each product: of several, the one that is asked first."""
        found: dict[str, ServedModel] = {}
        for model in self.models.all():
            found.setdefault(model.facts.product, model)
        return found

    def _title(self) -> str:
        return " · ".join(self.products())

    def panel_named(self, model: ServedModel, name: str) -> ReadPanel:
        """Raises NotServed."""
        for panel in self.panels.of(model):
            if panel.name == name:
                return panel
        raise NotServed(f"{model.facts.product} has no panel {name}", hint="Open the workbench to see which there are.")


def console_routes(console: Console) -> APIRouter:
    """The pages, and what they load."""
    router = APIRouter(include_in_schema=False)
    _add_entrance(router, console)
    _add_files(router, console)
    _add_workbench(router, console)

    @router.get(CONSOLE)
    async def home(request: Request) -> Response:
        texts = language_of(request)
        return console.page(
            request, "home", "home", models=[_shown(model, texts) for model in console.models.all()],
            since=console.since, benches=console.benches(request),
        )  # fmt: skip

    def add(place: Place) -> None:
        @router.get(place.path, name=f"console {place.name}")
        async def shown(request: Request) -> Response:
            refusal = _refusal(console, request, place.role)
            return refusal or console.page(request, place.name, place.name)

    for place in PLACES:
        if place.name not in ("home", "workbench"):
            add(place)
    return router


def _add_entrance(router: APIRouter, console: Console) -> None:
    @router.get(SIGN_IN)
    async def ask(request: Request) -> Response:
        return console.page(request, "sign_in", "sign-in", next=_next(request.query_params.get("next")), problem="")

    @router.post(SIGN_IN)
    async def enter(request: Request) -> Response:
        if not is_own_origin(request.headers):
            raise Forbidden("this request was not made by the console", hint="Open /console/sign-in and type the key.")
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        identity = console.door.access.authenticate(form.get("key", [""])[0].strip())
        going = _next(form.get("next", [""])[0])
        if identity is None:
            console.door.access.refused(request.client.host if request.client else "")
            return console.page(request, "sign_in", "sign-in", 401, next=going, problem="sign_in.unknown")
        _, token = console.door.sessions.begin(console.door.access, identity)
        cookie = set_cookie(token, secure=is_secure(request.scope, request.headers))
        return RedirectResponse(going, 303, {"set-cookie": cookie})

    @router.post(f"{CONSOLE}/sign-out")
    async def leave(request: Request) -> Response:
        if session := getattr(request.state, "session", None):
            console.door.sessions.end(session)
        cookie = set_cookie("", secure=is_secure(request.scope, request.headers))
        return Response(status_code=204, headers={"set-cookie": cookie})

    @router.get(LANGUAGE + "{language}")
    async def speak(request: Request, language: str) -> Response:
        if language not in LANGUAGES:
            raise NotServed(f"the console does not speak {language}", hint=f"Languages: {', '.join(LANGUAGES)}.")
        cookie = f"console_language={language}; Path={CONSOLE}; SameSite=Lax; Max-Age={_YEAR}"
        return RedirectResponse(_next(request.query_params.get("next")), 303, {"set-cookie": cookie})


def _add_files(router: APIRouter, console: Console) -> None:
    @router.get(f"{CONSOLE}/static/{{digest}}/{{name}}")
    async def static(digest: str, name: str) -> Response:
        return console.assets.answer(digest, name)

    @router.get(f"{CONSOLE}/panels/{{product}}/{{panel}}/{{digest}}/{{name}}")
    async def of_panel(product: str, panel: str, digest: str, name: str) -> Response:
        return console.panel_named(console.model_named(product), panel).assets.answer(digest, name)


def _add_workbench(router: APIRouter, console: Console) -> None:
    @router.get(f"{CONSOLE}/workbench")
    async def first(request: Request) -> Response:
        benches = console.benches(request)
        if benches:
            model, name = benches[0]["model"], benches[0]["name"]
            return RedirectResponse(f"{CONSOLE}/workbench/{quote(model.product, safe='')}/{name}", 303)
        return RedirectResponse(f"{CONSOLE}/try", 303)

    @router.get(f"{CONSOLE}/try")
    async def any_route(request: Request) -> Response:
        benches = console.benches(request)
        products = console.products()
        trying = request.query_params.get("product", "")
        model = products.get(trying) or next(iter(products.values()))
        return console.page(
            request, "try", "workbench", benches=benches, bench=None, trying=model.facts.product,
            products=list(products), starts=_protocols(model),
        )  # fmt: skip

    @router.get(f"{CONSOLE}/workbench/{{product}}/{{panel}}")
    async def bench(request: Request, product: str, panel: str) -> Response:
        model = console.model_named(product)
        shown, language = console.panel_named(model, panel), language_of(request).language
        if refusal := _refusal(console, request, shown.role):
            return refusal
        base = f"{CONSOLE}/panels/{quote(product, safe='')}/{panel}/{shown.assets.digest}"
        texts = shown.texts(language)
        return console.page(
            request, "workbench", "workbench", benches=console.benches(request), bench=(product, panel),
            title=texts("title"), about=texts("about"), html=shown.html(language), script=f"{base}/panel.js",
            style=f"{base}/panel.css" if "panel.css" in shown.assets.files else "", texts=dict(texts.texts),
            sample=model.facts.sample, model=model.facts,
        )  # fmt: skip


def _protocols(model: ServedModel) -> list[str]:
    """The paths beside its own at which a model answers in the words of other protocols. KServe's `infer` is for
    tensors."""
    found = [f"{KSERVE}/models/{{model}}" + ("/infer" if model.inputs else "")]
    return [*found, *(OPENAI if model.service.conversation else ())]


def language_of(request: Request) -> Catalogue:
    chosen = chosen_language(request.cookies.get("console_language"), request.headers.get("accept-language", ""))
    return own_catalogues()[chosen]


def theme_of(request: Request) -> str:
    """The theme that a person chose; empty for the device's own."""
    chosen = request.cookies.get("console_theme")
    return chosen if chosen in THEMES else ""


def paths_of(request: Request) -> frozenset[str]:
    """Paths of the server's own routes, as its description has them: a page shows what can be done here."""
    return frozenset(request.app.openapi()["paths"])


def _refusal(console: Console, request: Request, role: Role) -> Response | None:
    identity: Identity = request.state.identity
    if identity.may(role):
        return None
    return console.page(request, "refused", "refused", 403, role=role)


def _shown(model: ServedModel, texts: Catalogue) -> Mapping[str, Any]:
    """A model as Home shows it."""
    standing = model.standing()
    state = "stopping" if model.queue.closed else "ready" if standing.holds else "refused"
    return {
        "facts": model.facts, "running": model.queue.facts, "standing": standing, "state": state,
        "gate": gate_of(model.facts, texts),
    }  # fmt: skip


def _next(wanted: str | None) -> str:
    """Where to go on to: a page of the console, and nowhere else."""
    inside = wanted is not None and (wanted == CONSOLE or wanted.startswith(CONSOLE + "/"))
    plain = wanted is not None and wanted.isprintable() and "\\" not in wanted and ".." not in wanted
    return wanted if wanted is not None and inside and plain else CONSOLE
