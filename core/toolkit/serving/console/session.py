"""Who is signed in: sessions as encrypted tokens, valid in every worker process that shares the key.

A session names a key of the site and bears no secret of it. It ends when it idles, when it is old, when its owner signs
out, and with the key itself. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import mmap
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from cryptography.fernet import Fernet, InvalidToken

from toolkit.serving.access import Access, AccessKey, Identity

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
RENEW_SECONDS = 60
"""A session is written anew where the last time is so long ago."""

_ID_BYTES = 16
_PLACES = 4096


@dataclass(frozen=True)
class Session:
    """One sign-in. `mark` tells this key from another of the same name; `csrf` goes with each request that changes
    something. Times are seconds since 1970."""

    name: str
    mark: str
    id: str
    csrf: str
    begun: int
    seen: int


class SignedOut:
    """Sessions that ended before their time, in memory that forked processes share.

    A session has one place, by its id: an entry is lost only where two of 4,096 places meet within twelve hours.
    """

    def __init__(self) -> None:
        self._places = mmap.mmap(-1, _PLACES * _ID_BYTES)

    def add(self, session: str) -> None:
        start, entry = self._place(session)
        self._places[start : start + _ID_BYTES] = entry

    def __contains__(self, session: str) -> bool:
        start, entry = self._place(session)
        return self._places[start : start + _ID_BYTES] == entry

    @staticmethod
    def _place(session: str) -> tuple[int, bytes]:
        entry = bytes.fromhex(session)
        return int.from_bytes(entry[:4], "big") % _PLACES * _ID_BYTES, entry


class Sessions:
    """Makes and reads the tokens. Make it before the worker processes fork: its key lives in their memory alone.

    Args:
        clock: the time in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._fernet, self._out, self._clock = Fernet(Fernet.generate_key()), SignedOut(), clock

    def begin(self, access: Access, identity: Identity) -> tuple[Session, str]:
        """A new session of a key's bearer, and its token."""
        key = access.key(identity.name)
        assert key is not None
        now = int(self._clock())
        session = Session(
            key.name, _mark(key), secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(24), begun=now, seen=now
        )
        return session, self._token(session)

    def read(self, access: Access, token: str) -> tuple[Identity, Session] | None:
        """Whose session it is; None where it is none, has ended, or its key was removed.

        Raises:
            IntegrityError: the file of keys is damaged; nobody is let in.
        """
        now = int(self._clock())
        try:
            data = self._fernet.decrypt_at_time(token.encode("latin-1", "replace"), IDLE_SECONDS, now)
        except InvalidToken:
            return None
        session = Session(**json.loads(data))
        key = access.key(session.name)
        if key is None or _mark(key) != session.mark:
            return None
        if now - session.begun > LONGEST_SECONDS or session.id in self._out:
            return None
        return Identity(key.name, key.role, key.rate), session

    def renewed(self, session: Session) -> str | None:
        """The token of a session that is in use; None where the one there is, is fresh enough."""
        now = int(self._clock())
        return self._token(replace(session, seen=now)) if now - session.seen >= RENEW_SECONDS else None

    def end(self, session: Session) -> None:
        """Sign out: the token is worth nothing from now on, wherever it was copied to."""
        self._out.add(session.id)

    def _token(self, session: Session) -> str:
        data = json.dumps(asdict(session)).encode()
        return self._fernet.encrypt_at_time(data, session.seen).decode()


def _mark(key: AccessKey) -> str:
    return key.hash[:16]
