"""An OCI registry, spoken to as the distribution-spec 1.1 has it: pull, push, and the token that it may demand first.

The registry may be hostile. Nothing longer than was stated is read, every byte is checked against a digest, and what
the user trusted one host with goes to that host alone: a redirect elsewhere is followed without credentials, an upload
is not, and the password is told to no other host but one that the user named.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from toolkit.carriage.image import MANIFEST_TYPE, MAX_IMAGE, Image, Part, pieces_of, read_image
from toolkit.carriage.reference import Credentials, Reference, is_loopback, scheme_of
from toolkit.errors import EnvironmentUnfit, IntegrityError, Refused, UsageError
from toolkit.seal.canonical import Fields, decode

TIMEOUT = httpx.Timeout(60.0, connect=15.0)
REDIRECTS = 3
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait each time that a file breaks off, before it goes on. After PROGRESS more bytes they begin anew."""
PROGRESS = 2**20
MAX_TOKEN = 64 * 1024
FOLLOWED = (301, 302, 303, 307, 308)
PRINTABLE = r"[\x21-\x7e]{1,16384}"


@dataclass
class Registry:
    """One repository of a registry. Use as a context manager.

    `insecure` allows plain http beyond this machine; `token_host` is another host that the credentials may go to, where
    the registry has its tokens made elsewhere.
    """

    reference: Reference
    credentials: Credentials | None = field(default=None, repr=False)
    insecure: bool = False
    token_host: str = ""
    _authorization: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        host = self.reference.host
        self._base = httpx.URL(f"{scheme_of(host, insecure=self.insecure)}://{host}/v2/{self.reference.name}/")
        # The system's authorities, or those of SSL_CERT_FILE. No proxy is asked for what lies on this machine.
        self._client = httpx.Client(
            timeout=TIMEOUT, follow_redirects=False, verify=ssl.create_default_context(),
            trust_env=not is_loopback(host), headers={"User-Agent": "distil-toolkit", "Accept-Encoding": "identity"},
        )  # fmt: skip
        # Harbor takes whoever keeps its cookie for a browser.
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def image(self) -> Image:
        """The image that the reference names.

        Raises:
            UsageError: there is none. IntegrityError: it is no bundle's, or has not the digest that was asked for.
        """
        label = str(self.reference)
        with self._asked("GET", f"manifests/{self.reference.target}", headers={"Accept": MANIFEST_TYPE}) as response:
            if response.status_code == 404:
                raise UsageError(f"{self.reference.host} has no {label}", hint="Check its name and tag.")
            _expect(response, 200)
            data = _read(response, MAX_IMAGE, label)
            stated = response.headers.get("Docker-Content-Digest", self.reference.digest)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.reference.digest not in ("", digest) or stated not in ("", digest):
            raise IntegrityError(
                f"{label} has another digest than it should ({digest[:19]}…)", part=label,
                hint="Ask whoever pushed it for the digest, and the registry's keeper what happened.",
            )  # fmt: skip
        return read_image(data, part=label)

    @contextlib.contextmanager
    def read(self, part: Part) -> Iterator[Iterator[bytes]]:
        """The bytes of a file of an image as they come; whoever takes them counts and checks them. Where the line
        breaks off in the midst of them, they go on from there after a while."""
        with contextlib.closing(self._pieces(part)) as pieces:
            yield pieces

    def _pieces(self, part: Part) -> Generator[bytes, None, None]:
        arrived, pauses = 0, iter(PAUSES)
        while True:
            before = arrived
            try:
                for piece in self._from(part, arrived):
                    arrived += len(piece)
                    yield piece
                return
            except EnvironmentUnfit:
                if arrived - before >= PROGRESS:
                    pauses = iter(PAUSES)
                if not arrived or (pause := next(pauses, None)) is None:
                    raise
            time.sleep(pause)

    def _from(self, part: Part, start: int) -> Iterator[bytes]:
        """A file's bytes from `start` on, also of a registry that only sends it whole."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._asked("GET", f"blobs/{part.digest}", headers=headers) as response:
            if response.status_code == 404:
                raise IntegrityError(f"{part.path} is missing in the registry", part=part.path, hint="Push it again.")
            known = start
            if not (start and response.status_code == 206 and _begin(response) == start):
                _expect(response, 200)
                known = 0
            for piece in _raw(response, part.path):
                yield piece[max(0, start - known) :]
                known += len(piece)

    def push(self, bundle: Path, image: Image) -> int:
        """Send what the registry does not have of `image`, its manifest last; the bytes of blobs that were sent.

        A push that was cut short goes on where it was, blob by blob, and nobody ever sees half an image.
        """
        lacking = [part for part in image.blobs().values() if not self._has(part)]
        for part in lacking:
            self._upload(bundle, part)
        headers = {"Content-Type": MANIFEST_TYPE}
        place = f"manifests/{self.reference.tag}"
        with self._asked("PUT", place, headers=headers, content=lambda: image.data) as response:
            _expect(response, 201)
        return sum(part.size for part in lacking)

    def _has(self, part: Part) -> bool:
        with self._asked("HEAD", f"blobs/{part.digest}") as response:
            if response.status_code == 404:
                return False
            _expect(response, 200)
            # A registry that says it has something else under this digest is not believed.
            return bool(response.headers.get("Content-Length", str(part.size)) == str(part.size))

    def _upload(self, bundle: Path, part: Part) -> None:
        with self._asked("POST", "blobs/uploads/", headers={"Content-Length": "0"}) as response:
            _expect(response, 202)
            place = response.url.join(_location(response))
        if _origin(place) != _origin(self._base):
            raise Refused(
                f"{self.reference.host} wants {part.path or 'a blob'} sent to {place.host}",
                hint="Nothing was sent: have the registry take uploads itself.",
            )
        headers = {"Content-Length": str(part.size), "Content-Type": "application/octet-stream"}
        with self._asked(
            "PUT", place.copy_merge_params({"digest": part.digest}), headers=headers,
            content=lambda: (bytes(piece) for piece in pieces_of(bundle, part)),
        ) as response:  # fmt: skip
            _expect(response, 201)

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str | httpx.URL, *, headers: Mapping[str, str] | None = None,
        content: Callable[[], Any] = lambda: None,
    ) -> Iterator[httpx.Response]:  # fmt: skip
        """The answer to a request, its body unread, after a login that it demands and the redirects that it gives."""
        url, hops, challenged = self._base.join(path), 0, False
        while True:
            mine = {"Authorization": self._authorization} if self._authorization and self._is_home(url) else {}
            with self._sent(method, url, {**(headers or {}), **mine}, content()) as response:
                if response.status_code == 401 and self._is_home(url) and not challenged:
                    challenged = True  # once a request: a token may have ended, or be for less than this
                    self._log_in(response)
                elif response.status_code in FOLLOWED and method in ("GET", "HEAD") and hops < REDIRECTS:
                    hops += 1
                    url = self._followed(response)
                else:
                    yield response
                    return

    @contextlib.contextmanager
    def _sent(self, method: str, url: httpx.URL, headers: Mapping[str, str], content: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, url, headers=headers, content=content) as response:
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EnvironmentUnfit(
                f"{url.host} does not answer as it should: {type(error).__name__} {error}".rstrip(),
                hint=_try_again(method),
            ) from error

    def _is_home(self, url: httpx.URL) -> bool:
        return _origin(url) == _origin(self._base)

    def _followed(self, response: httpx.Response) -> httpx.URL:
        """Where a redirect leads; never from https to plain http, and to plain http on this machine alone else."""
        url = response.url.join(_location(response))
        plain_allowed = response.url.scheme == "http" and (self.insecure or is_loopback(_netloc(url)))
        if url.scheme != "https" and not (url.scheme == "http" and plain_allowed):
            raise Refused(
                f"{self.reference.host} redirects to {url.scheme}://{url.host}",
                hint="Ask the registry's keeper for https.",
            )
        return url

    def _log_in(self, response: httpx.Response) -> None:
        """Answer a challenge: Basic (RFC 7617), or a token as the distribution's token service gives it.

        Raises:
            UsageError: credentials are needed, or the service is a host that nobody named.
        """
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        facts = dict(re.findall(r'([a-z]+)="([^"]*)"', rest))
        if scheme.lower() == "basic" and self.credentials:
            self._authorization = self.credentials.basic
        elif scheme.lower() == "bearer" and facts.get("realm"):
            self._authorization = f"Bearer {self._token(httpx.URL(facts['realm']), facts)}"
        else:
            raise UsageError(f"{self.reference.host} wants a user and a password", hint=_HOW_TO_LOG_IN)

    def _token(self, realm: httpx.URL, facts: Mapping[str, str]) -> str:
        home, known = _netloc(realm) == _netloc(self._base), (_netloc(realm), realm.host)
        if realm.scheme != "https" and not (realm.scheme == self._base.scheme and home):
            raise Refused(
                f"{self.reference.host} has its tokens made over {realm.scheme}", hint="Ask its keeper for https."
            )
        if self.credentials and not home and self.token_host not in known:
            raise UsageError(
                f"{self.reference.host} wants the password told to {realm.host}",
                hint=f"Where that is right, say --token-host {realm.host}.",
            )
        asked = {name: facts[name] for name in ("service", "scope") if name in facts}
        login = {"Authorization": self.credentials.basic} if self.credentials else {}
        with self._sent("GET", realm.copy_merge_params(asked), login, None) as response:
            if response.status_code in (401, 403):
                raise UsageError(f"{realm.host} does not know this user or password", hint=_HOW_TO_LOG_IN)
            _expect(response, 200)
            label = f"the token of {realm.host}"
            fields = Fields(
                decode(_read(response, MAX_TOKEN, label), part=label, limit=MAX_TOKEN, canonical=False), label
            )
        return fields.text("token" if "token" in fields.values else "access_token", PRINTABLE)


_HTTPS = "Ask the registry's keeper for https."
_HOW_TO_LOG_IN = "Give them in TOOLKIT_REGISTRY_USER and TOOLKIT_REGISTRY_PASSWORD, or in a file by --credentials."


def _try_again(method: str) -> str:
    """A push finds the blobs that have arrived; a pull begins anew."""
    return "Try again." if method == "GET" else "Try again: what has arrived is not sent twice."


def _expect(response: httpx.Response, status: int) -> None:
    if response.status_code in (401, 403):
        raise UsageError(f"{response.url.host} does not let this user do that", hint=_HOW_TO_LOG_IN)
    if response.status_code != status:
        raise EnvironmentUnfit(
            f"{response.url.host} answers {response.status_code} where {status} was expected",
            hint=f"Look into the registry's log. {_try_again(response.request.method)}",
        )


def _read(response: httpx.Response, limit: int, label: str) -> bytes:
    data = bytearray()
    for piece in _raw(response, label):
        data += piece
        if len(data) > limit:
            raise IntegrityError(f"{label} is longer than {limit:,} bytes", part=label)
    return bytes(data)


def _raw(response: httpx.Response, label: str) -> Iterator[bytes]:
    """The body as it was sent. One that is packed, which nobody asked for, might unpack to anything."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise IntegrityError(f"{label} is sent packed, which was not asked for", part=label)
    yield from response.iter_raw()  # as it comes, so that nothing is lost of what breaks off


def _begin(response: httpx.Response) -> int | None:
    """Where the part of a file that came begins, as it says itself."""
    found = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _location(response: httpx.Response) -> str:
    place = response.headers.get("Location", "")
    if not place:
        raise EnvironmentUnfit(f"{response.url.host} does not say where to go on", hint="Ask the registry's keeper.")
    return str(place)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"https": 443, "http": 80}.get(url.scheme)


def _netloc(url: httpx.URL) -> str:
    return url.netloc.decode("ascii")
