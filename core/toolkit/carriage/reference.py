"""What a registry's image is called, and what may be said to whom: HOST[:PORT]/NAME[:TAG][@sha256:DIGEST], plain http
and credentials. Knows no HTTP.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from toolkit.carriage.image import DIGEST
from toolkit.errors import UsageError
from toolkit.seal.files import read_small

HOST = r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?)"
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME = rf"(?P<name>{COMPONENT}(?:/{COMPONENT})*)"
TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
REFERENCE = rf"{HOST}/{NAME}(?::(?P<tag>{TAG}))?(?:@(?P<digest>{DIGEST}))?"
"""Names and tags as the OCI distribution-spec 1.1 has them; a registry is always named, there is no default one."""
MAX_CREDENTIALS = 1024 * 1024


@dataclass(frozen=True)
class Reference:
    """An image in a registry: by tag, by digest, or by a tag that must have that digest."""

    host: str
    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.host + "/" + self.name + (self.tag and f":{self.tag}") + (self.digest and f"@{self.digest}")

    @property
    def target(self) -> str:
        """By what the registry is asked for it."""
        return self.digest or self.tag


@dataclass(frozen=True)
class Credentials:
    """A user of a registry and a password or token."""

    user: str
    secret: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The header of RFC 7617."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode("ascii")


def parse_reference(text: str) -> Reference:
    """Read HOST[:PORT]/NAME[:TAG][@sha256:DIGEST].

    Raises:
        UsageError: another form, or neither a tag nor a digest.
    """
    found = re.fullmatch(REFERENCE, text) if len(text) <= 512 else None
    if found is None or len(found["name"]) > 255:
        raise UsageError(
            f"{ascii(text)[1:-1][:120]} names no image in a registry",
            hint="Write HOST[:PORT]/NAME:TAG, e.g. registry.example.com/models/industry:7.",
        )
    reference = Reference(found["host"].lower(), found["name"], found["tag"] or "", found["digest"] or "")
    if not reference.target:
        raise UsageError(f"{text} names neither a tag nor a digest", hint=f"Name one, e.g. {text}:1.")
    return reference


def scheme_of(host: str, *, insecure: bool) -> str:
    """https; plain http for this machine alone, or where the user said that anybody may listen."""
    return "http" if insecure or is_loopback(host) else "https"


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def credentials_for(host: str, *, file: Path | None, environment: Mapping[str, str]) -> Credentials | None:
    """What to say to a registry: TOOLKIT_REGISTRY_USER and TOOLKIT_REGISTRY_PASSWORD, or its entry in `file`, which has
    the form that `docker login` and `podman login` write. None where there is neither: it is asked without a name.

    Raises:
        UsageError: the file is missing or has another form, or one of the two variables is missing.
    """
    user, secret = (environment.get(f"TOOLKIT_REGISTRY_{name}", "") for name in ("USER", "PASSWORD"))
    if bool(user) != bool(secret):
        raise UsageError(
            "of TOOLKIT_REGISTRY_USER and TOOLKIT_REGISTRY_PASSWORD only one is set", hint="Set both, or neither."
        )
    if user:
        return Credentials(user, secret)
    return None if file is None else _from_file(file, host)


def _from_file(file: Path, host: str) -> Credentials | None:
    hint = (
        'It is {"auths": {"HOST": {"auth": BASE64 OF user:password}}}, as `docker login` or `podman login` writes it.'
    )
    data = read_small(file, MAX_CREDENTIALS, what="credentials file", hint=hint)
    try:
        entry = json.loads(data)["auths"].get(host)
        if entry is None:
            return None
        user, colon, secret = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        # What was read is not shown: it holds a secret.
        raise UsageError(f"{file} holds no credentials for {host} that can be read", hint=hint) from error
    if not colon or any(ord(letter) < 32 for letter in user + secret):
        raise UsageError(f"{file} holds no user and password for {host}", hint=hint)
    return Credentials(user, secret)
