"""Answers that core itself gives: the error object, and the headers that every answer bears."""

from __future__ import annotations

import json

from starlette.responses import Response

from toolkit.errors import ToolkitError
from toolkit.serving.refusals import Overloaded, TooMany, Unauthorised, status_of

# Nothing a site answers may be framed, cached, sniffed or loaded by another page. /docs sets a policy of its own.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def error_body(code: str, message: str, hint: str = "") -> bytes:
    """`{"error": {"code": ..., "message": ..., "hint": ...}}`."""
    return json.dumps({"error": {"code": code, "message": message, "hint": hint}}, ensure_ascii=False).encode()


def error_response(error: ToolkitError) -> Response:
    """The answer to a request that ended in `error`."""
    headers = {}
    if isinstance(error, Overloaded | TooMany):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthorised):
        headers["www-authenticate"] = 'Bearer realm="toolkit"'
    body = error_body(error.code, error.message, error.hint)
    return Response(body, status_of(error), headers, media_type="application/json")
