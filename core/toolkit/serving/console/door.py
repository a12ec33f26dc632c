"""How a browser comes in: the session cookie, and the proof that a request is the console's own.

A browser sends cookies with whatever any page makes it send. So a request that changes something is believed only
with the session's token in a header, which no other origin can set, and from the console's own origin.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from toolkit.serving.access import Access, Identity
from toolkit.serving.console.session import LONGEST_SECONDS, Session, Sessions
from toolkit.serving.refusals import Forbidden

CONSOLE = "/console"
SIGN_IN = CONSOLE + "/sign-in"
STATIC = CONSOLE + "/static/"
LANGUAGE = CONSOLE + "/language/"

COOKIE = "toolkit_session"
CSRF_HEADER = "x-csrf-token"
SAFE = frozenset({"GET", "HEAD"})


class Door:
    """Whom cookies let in.

    Args:
        access: the site's keys. sessions: shared by all worker processes.
    """

    def __init__(self, access: Access, sessions: Sessions) -> None:
        self.access, self.sessions = access, sessions

    @staticmethod
    def is_public(scope: Scope) -> bool:
        """What needs no key: the page to sign in on, the switch of its language, and the public package's own files."""
        path: str = scope["path"]
        if scope["method"] not in SAFE:
            return path == SIGN_IN and scope["method"] == "POST"
        return path == SIGN_IN or path.startswith((STATIC, LANGUAGE))

    def identify(self, scope: Scope) -> Identity | None:
        """Who is signed in, by the request's cookie; the session is left in the request's state.

        Raises:
            Forbidden: the request would change something, and was not made by the console. IntegrityError: the file of
            keys is damaged.
        """
        headers = Headers(scope=scope)
        token = cookie_parser(headers.get("cookie", "")).get(cookie_name(is_secure(scope, headers)))
        found = self.sessions.read(self.access, token) if token else None
        if found is None:
            return None
        identity, session = found
        if scope["method"] not in SAFE:
            given = headers.get(CSRF_HEADER, "").encode()
            if not (secrets.compare_digest(given, session.csrf.encode()) and is_own_origin(headers)):
                raise Forbidden(
                    "this request was not made by the console", hint="Reload the page; programs send an API key."
                )
        scope["state"]["session"] = session
        return identity


def is_own_origin(headers: Headers) -> bool:
    """Whether a page of this very server made the request. Browsers say so themselves (Fetch Metadata, W3C) where they
    trust the connection, and else name the page's origin with every request that changes something."""
    if site := headers.get("sec-fetch-site"):
        return site == "same-origin"
    return urlsplit(headers.get("origin", "")).netloc == headers.get("host", "") != ""


def is_secure(scope: Scope, headers: Headers) -> bool:
    """Whether the browser sees TLS: ours, or that of a proxy before us, which says so. A client that lies about it
    spoils its own cookie."""
    return scope["scheme"] == "https" or headers.get("x-forwarded-proto") == "https"


def cookie_name(secure: bool) -> str:
    """The prefix makes browsers refuse a cookie that another host, or a page without TLS, set in our name (RFC 6265bis,
    4.1.3.2)."""
    return f"__Host-{COOKIE}" if secure else COOKIE


def set_cookie(token: str, *, secure: bool) -> str:
    """The value of Set-Cookie for a session; an empty token ends it."""
    age = LONGEST_SECONDS if token else 0
    flags = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
    return f"{cookie_name(secure)}={token}{flags}; Max-Age={age}"


def renewal(sessions: Sessions, session: Session | None, *, secure: bool) -> str | None:
    """Set-Cookie for a session that is in use, where it is time."""
    token = sessions.renewed(session) if session is not None else None
    return set_cookie(token, secure=secure) if token else None
