"""Where traces may go: to a collector on the site's own network, whatever names, proxies and redirects say.

Nothing that a server does sends a byte off the site by accident. So the address at the other end is looked at on each
connection, after it stands and before anything is written to it. Knows nothing of traces.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from toolkit.errors import UsageError

PATH = "/v1/traces"
OWN = tuple(map(ipaddress.ip_network, (
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
)))  # fmt: skip
"""Loopback, and the networks that RFC 1918 and RFC 4193 keep off the internet."""


def endpoint_of(url: str) -> str:
    """Where a collector takes traces, of the URL by which it is known.

    Raises:
        UsageError: it is no URL of HTTP, bears a password, or its host is not on a private network. A host that cannot
            be found now may be found later: each connection is looked at again.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        parts, host, port = urlsplit(""), "", 0
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise UsageError(f"{_shown(url)} is no collector's URL", hint="It looks like http://127.0.0.1:4318.")
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        found = set()
    if strange := sorted(address for address in found if not is_own(address)):
        raise UsageError(
            f"the collector {host} is at {strange[0]}, which is not on a private network",
            hint="Name one on this machine or on the site's own network; traces leave the site by no other way.",
        )
    return url.rstrip("/").removesuffix(PATH) + PATH


def is_own(address: str) -> bool:
    """Whether an IP address is this machine's own, or on a private network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(found, "ipv4_mapped", None) or found
    return any(plain in network for network in OWN if network.version == plain.version)


def own_session() -> Session:
    """A session that talks to addresses of the own network alone, whatever proxies the environment names."""
    session = Session()
    session.trust_env = False
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class _Own:
    """A connection of urllib3 that stands only where its other end is on the own network."""

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        if not is_own(address := connected.getpeername()[0]):
            connected.close()
            raise ConnectionRefusedError(f"the collector is at {address}, which is not on a private network")
        return connected


class _Connection(_Own, HTTPConnection):
    pass


class _SecureConnection(_Own, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _shown(url: str) -> str:
    """Without what may be a password."""
    return url.rpartition("@")[2][:200] or "this"
