"""Answers that core itself gives: errors, each in the form of the protocol that its path belongs to, and the headers
that every answer bears."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from toolkit.errors import ToolkitError
from toolkit.serving.refusals import NotServed, Overloaded, TooMany, Unauthorised, status_of

# Nothing a site answers may be framed, cached, sniffed or loaded by another page. /docs sets a policy of its own.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)

KSERVE = "/v2"
OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/models")
"""Where other protocols than our own begin."""
OF_A_PRODUCT = re.compile(r"(/products/([^/]+))/.+")
"""A path that names a product, before what is asked of it."""


def error_answer(
    path: str, status: int, code: str, message: str, hint: str = "", *, param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """An error as clients of the protocol at `path` know them; `param` is the field at fault, where one is.

    Ours: `{"error": {"code", "message", "hint"}}`. KServe v2: `{"error": message}`. OpenAI's:
    `{"error": {"message", "type", "param", "code"}}`. The two call a request that cannot be understood 400, and have no
    place for a hint but the message.
    """
    error: Any
    whole = _whole(message, hint)
    if path == KSERVE or path.startswith(f"{KSERVE}/"):
        error, status = whole, _plain(status)
    elif is_openai(path):
        error, status = _openai(status, code, whole, param), _plain(status)
    else:
        error = {"code": code, "message": message, "hint": hint}
    body = json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, dict(headers or {}), media_type="application/json")


def error_response(error: ToolkitError, path: str = "") -> Response:
    """The answer to a request, made at `path`, that ended in `error`."""
    headers = {}
    if isinstance(error, Overloaded | TooMany):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthorised):
        headers["www-authenticate"] = 'Bearer realm="toolkit"'
    return error_answer(
        path, status_of(error), error.code, error.message, error.hint, param=getattr(error, "param", None),
        headers=headers,
    )  # fmt: skip


def openai_error(error: ToolkitError) -> dict[str, Any]:
    """OpenAI's error object of what went wrong in the midst of an answer."""
    return _openai(status_of(error), error.code, _whole(error.message, error.hint), None)


def _openai(status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    known = {400: None, 422: None, 401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status, code)
    if status == 404 and code == NotServed.code:
        known = "model_not_found"
    return {"message": message, "type": kind, "param": param, "code": known}


def is_openai(path: str) -> bool:
    """Whether a path is one of OpenAI's, of whatever product."""
    if of_a_product := OF_A_PRODUCT.fullmatch(path):
        path = path.removeprefix(of_a_product[1])
    return any(path == one or path.startswith(f"{one}/") for one in OPENAI)


def _whole(message: str, hint: str) -> str:
    return f"{message.removesuffix('.')}. {hint}" if hint else message


def _plain(status: int) -> int:
    return 400 if status == 422 else status
