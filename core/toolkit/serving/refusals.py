"""What a server refuses, and which HTTP status says so. Knows nothing of HTTP libraries."""

from __future__ import annotations

from toolkit.errors import DataError, EnvironmentUnfit, Refused, ToolkitError, UsageError
from toolkit.seal.validity import Standing


class Overloaded(EnvironmentUnfit):
    """More requests than the server may hold (503): ask again after `retry_after` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, hint: str = "Ask again in a moment.", retry_after: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class TooMany(UsageError):
    """More requests than a key may send (429): ask again after `retry_after` seconds."""

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, hint=f"Ask again in {retry_after} seconds; `toolkit access add --rate` sets limits.")
        self.retry_after = retry_after


class Unauthorised(UsageError):
    """No API key, or none this site knows (401)."""

    code = "unauthorised"


class Forbidden(UsageError):
    """A key whose role may not do this (403)."""

    code = "forbidden"


class NotServed(UsageError):
    """A product or version that is not served here (404)."""

    code = "not_found"


class TooLarge(UsageError):
    """A request body above the limit (413)."""

    code = "too_large"


class TooSlow(UsageError):
    """A request body that did not arrive in time (408)."""

    code = "too_slow"


class TooLate(EnvironmentUnfit):
    """No answer within the time that the request itself allows (504)."""

    code = "too_late"


class NotLicensed(EnvironmentUnfit):
    """The grant by which the bundle is served ended, or was revoked (503); asking again does not help."""

    code = "licence"

    @classmethod
    def because(cls, standing: Standing) -> NotLicensed:
        """As a grant stands that no longer holds."""
        hint = "Install a new grant on the site; the server takes it up by itself."
        if standing.state == "revoked":
            hint = "Install what took its place on the site; the server takes it up by itself."
        return cls(standing.message, hint=hint)


class ModelFault(ToolkitError):
    """The model failed on an input, or answered what cannot be an answer (500)."""

    code = "model"


_STATUS: tuple[tuple[type[ToolkitError], int], ...] = (
    (Unauthorised, 401),
    (Forbidden, 403),
    (NotServed, 404),
    (TooSlow, 408),
    (TooLarge, 413),
    (TooMany, 429),
    (DataError, 422),
    (UsageError, 422),
    (Refused, 409),
    (Overloaded, 503),
    (TooLate, 504),
    (EnvironmentUnfit, 503),
)


def status_of(error: ToolkitError) -> int:
    """The HTTP status for an error: the first class that fits, 500 for what is no fault of the client."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
