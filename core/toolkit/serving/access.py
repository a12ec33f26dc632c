"""API keys of a site: who may ask what. SITE/access.json holds salted hashes, never a key.

Knows names, roles and hashes, nothing of HTTP routes. Cryptographic keys are another matter (`seal`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from toolkit.errors import IntegrityError, UsageError
from toolkit.serving.rates import Buckets, Rate
from toolkit.serving.refusals import TooMany
from toolkit.workspace import folder_lock, write_file

Role = Literal["infer", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each role may do what those before it may."""

FILE = "access.json"
LOCK_WAIT = 5.0
WRONG = Rate(300, 60)
"""How many requests with wrong keys an address gets an answer of their own to; more are told to wait."""

PREFIX = "tk_"  # lets a secret scanner recognise a key that leaked into a repository

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Identity:
    """Whose key a request bears."""

    name: str
    role: Role
    rate: str = ""

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class AccessKey:
    """A key as the site keeps it. `salt` and `hash` are hexadecimal; `rate` is as in `rates`, empty without one."""

    name: str
    role: Role
    created: str
    salt: str
    hash: str
    rate: str = ""


def add_key(site: Path, name: str, role: Role, rate: str = "") -> str:
    """Make a key; the returned secret is shown once and kept nowhere.

    Raises:
        UsageError: the name is taken or not a name, the role or the rate is none, or there is no such site.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a key", hint="Use up to 64 letters, digits, dots, dashes, underscores.")
    if role not in ROLES:
        raise UsageError(f"no role is called {role}", hint=f"Roles: {', '.join(ROLES)}.")
    if rate:
        Rate.parse(rate)
    _require_site(site)
    with folder_lock(site, purpose="change API keys", wait=LOCK_WAIT):
        keys = list_keys(site)
        if any(key.name == name for key in keys):
            raise UsageError(f"a key named {name} exists", hint=f"Choose another name, or remove {name} first.")
        secret, salt = PREFIX + secrets.token_urlsafe(32), secrets.token_bytes(16)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _write(site, [*keys, AccessKey(name, role, created, salt.hex(), _hash(secret, salt).hex(), rate)])
    return secret


def remove_key(site: Path, name: str) -> None:
    """Forget a key; a running server refuses it from its next request on.

    Raises:
        UsageError: no key has this name.
    """
    _require_site(site)
    with folder_lock(site, purpose="change API keys", wait=LOCK_WAIT):
        keys = list_keys(site)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise UsageError(f"no key is named {name}", hint=f"Keys of this site: {names}.")
        _write(site, left)


def list_keys(site: Path) -> tuple[AccessKey, ...]:
    """The site's keys in the order they were made; none where no file is.

    Raises:
        IntegrityError: the file is damaged.
    """
    try:
        text = (site / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    try:
        keys = tuple(AccessKey(**record) for record in json.loads(text)["keys"])
        if any(key.role not in ROLES or len(bytes.fromhex(key.salt)) != 16 for key in keys):
            raise ValueError("a role or a salt that cannot be")
        for key in keys:
            if key.rate:
                Rate.parse(key.rate)
    except (ValueError, UsageError, TypeError, KeyError) as error:
        raise IntegrityError(
            f"{site / FILE} is damaged: {error}", part=FILE, hint="Restore it, or remove it and add the keys again."
        ) from error
    return keys


class Access:
    """The keys of a site as a server sees them: read again whenever the file changes."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[AccessKey, ...] = ()
        self._buckets: Buckets | None = None

    def authenticate(self, secret: str | None) -> Identity | None:
        """Who bears this key, or None.

        Takes the same time for any wrong key: every hash is compared, and none in a way that stops early.

        Raises:
            IntegrityError: the file of keys is damaged; nobody is let in.
        """
        self._refresh()
        given = (secret or "").encode("utf-8", "surrogatepass")
        found: Identity | None = None
        for key in self._keys:
            if hmac.compare_digest(_hash(given, bytes.fromhex(key.salt)), bytes.fromhex(key.hash)):
                found = Identity(key.name, key.role, key.rate)
        return found

    def key(self, name: str) -> AccessKey | None:
        """The key of this name; None where it was removed. Raises as `authenticate` does."""
        self._refresh()
        return next((key for key in self._keys if key.name == name), None)

    def admit(self, identity: Identity) -> None:
        """Count a request of this key. Raises TooMany where it asks more often than it may."""
        if identity.rate:
            self._take(f"key {identity.name}", Rate.parse(identity.rate), f"the key {identity.name} asks too often")

    def refused(self, address: str) -> None:
        """Count a request from there with a wrong key or none. Raises TooMany where there are too many: whoever has a
        key is never kept out by those who have none."""
        self._take(f"wrong {address}", WRONG, "too many requests without a key that is known here")

    def rates(self) -> dict[str, float]:
        """Requests a second that each key with a limit may send."""
        self._refresh()
        return {key.name: Rate.parse(key.rate).a_second for key in self._keys if key.rate}

    def _take(self, name: str, rate: Rate, told: str) -> None:
        if self._buckets is None:  # here, and not where the site is only read
            self._buckets = Buckets(self._site)
        if wait := self._buckets.take(name, rate):
            raise TooMany(told, retry_after=math.ceil(wait))

    def _refresh(self) -> None:
        try:
            status = os.stat(self._site / FILE)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._keys = list_keys(self._site)
            self._stamp = stamp


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The API key among a request's headers: `X-API-Key: KEY`, or `Authorization: Bearer KEY`."""
    bearer: str | None = None
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
        if name == b"authorization":
            scheme, _, rest = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                bearer = rest.strip()
    return bearer


def _hash(secret: str | bytes, salt: bytes) -> bytes:
    """One keyed BLAKE2b is enough: a key is 256 random bits, so there is nothing to guess that a slow password hash
    would protect; and it is computed for every request."""
    data = secret.encode() if isinstance(secret, str) else secret
    return hashlib.blake2b(data, digest_size=32, salt=salt, person=b"toolkit-api-key").digest()


def _write(site: Path, keys: Iterable[AccessKey]) -> None:
    text = json.dumps({"version": 1, "keys": [asdict(key) for key in keys]}, indent=1)
    write_file(site / FILE, text.encode() + b"\n", mode=0o600)


def _require_site(site: Path) -> None:
    if not site.is_dir():
        raise UsageError(f"no site at {site}", hint="Check --site; `toolkit site init` makes one.")
