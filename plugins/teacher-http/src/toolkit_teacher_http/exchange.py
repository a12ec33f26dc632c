"""One request and its answer over HTTP: TLS verified, no redirect followed, nothing read without end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from toolkit.errors import EnvironmentUnfit, PlanError
from toolkit_teacher_http.settings import SECTION, HttpSettings

CONNECT_S = 20.0


class Interrupted(Exception):
    """No answer came, for a reason that may pass. `billed`: the server may have worked on one all the same."""

    def __init__(self, message: str, *, billed: bool) -> None:
        super().__init__(message)
        self.billed = billed


@dataclass(frozen=True)
class Response:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def open_client(settings: HttpSettings, key: str | None) -> httpx.AsyncClient:
    """Connections to the plan's server and to no other; neither proxies nor keys of the environment are used.

    Raises:
        PlanError: ca_file cannot be read.
    """
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "distil-toolkit"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return httpx.AsyncClient(
        headers=headers,
        verify=_trust(settings),
        timeout=httpx.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s)),
        limits=httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency),
        proxy=settings.proxy or None,
        trust_env=False,
        follow_redirects=False,
    )


def _trust(settings: HttpSettings) -> ssl.SSLContext:
    if not any(url.startswith("https://") for url in (settings.url, settings.proxy)):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody: reading the public authorities takes a while
    if settings.ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise PlanError(
            f"cannot read a certificate authority from {settings.ca_file}: {error.strerror or error}",
            hint=f"{SECTION}.ca_file names a file in PEM.",
        ) from error


async def post(client: httpx.AsyncClient, settings: HttpSettings, body: bytes) -> Response:
    """Send `body` and read the whole answer.

    Raises:
        Interrupted: the server was not reached, hung up, or took too long. EnvironmentUnfit: its certificate is not
        trusted, or its answer is too large.
    """
    try:
        async with asyncio.timeout(settings.timeout_s), client.stream("POST", settings.endpoint, content=body) as found:
            if found.headers.get("content-encoding", "identity") != "identity":
                raise Interrupted("an answer in an encoding that was not asked for", billed=True)
            content = await _read(found, int(settings.max_answer_mb * 1_000_000))
            return Response(found.status_code, {k.lower(): v for k, v in found.headers.items()}, content)
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as error:
        raise Interrupted(f"no answer within {settings.timeout_s:g} s", billed=True) from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        _refuse_untrusted(error, settings)
        raise Interrupted(f"it cannot be reached ({_reason(error)})", billed=False) from error
    except httpx.TransportError as error:
        raise Interrupted(f"the connection broke ({_reason(error)})", billed=True) from error


async def _read(found: httpx.Response, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    async for part in found.aiter_raw():
        left -= len(part)
        if left < 0:
            raise EnvironmentUnfit(
                f"{found.request.url} answers with more than {limit / 1e6:g} MB",
                hint=f"Lower {SECTION}.max_tokens, or raise {SECTION}.max_answer_mb.",
            )
        parts.append(part)
    return b"".join(parts)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _refuse_untrusted(error: BaseException, settings: HttpSettings) -> None:
    """A certificate does not become trusted by asking again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise EnvironmentUnfit(
                f"the certificate of {settings.url} is not trusted: {cause.verify_message}",
                hint=f"For a certificate authority of your own: {SECTION}.ca_file. Verification cannot be turned off.",
            ) from error
        cause = cause.__cause__ or cause.__context__
