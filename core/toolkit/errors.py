"""One tree of errors. Each says what was wrong, where, and what to do next.

The class decides the exit code of the command line; nothing else in the house knows about exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection


class ToolkitError(Exception):
    """Base of every error a user may see.

    Args:
        message: what was wrong and where, one sentence.
        hint: what to do next, one sentence.
        plugin: the distribution at fault, where a plugin is.
    """

    exit_code = 1
    code = "error"

    def __init__(self, message: str, *, hint: str = "", plugin: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.plugin = plugin

    def as_record(self) -> dict[str, object]:
        """The error as `--json` and the registry show it."""
        record: dict[str, object] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.plugin:
            record["plugin"] = self.plugin
        return record


class UsageError(ToolkitError):
    """A verb, an option or a name that does not exist or does not fit (exit 2)."""

    exit_code = 2
    code = "usage"


class PlanError(UsageError):
    """A plan that cannot be: an unknown key, a value out of range, parts that do not fit together (exit 2)."""

    code = "plan"


def unknown_name(kind: str, name: str, known: Collection[str], *, listed: str = "Offered") -> PlanError:
    """What is said of a name that nobody knows: the nearest that somebody does, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    suggestion = f"Did you mean {near[0]}? " if near else ""
    return PlanError(f"no {kind} is named {name}", hint=f"{suggestion}{listed}: {', '.join(known) or 'none'}.")


class DataError(UsageError):
    """Input data that cannot be used as it is (exit 2)."""

    code = "data"


class Unsupported(UsageError):
    """Something asked of a model, teacher or target that it cannot do (exit 2)."""

    code = "unsupported"


class Refused(ToolkitError):
    """A rule of the house said no: a gate, a licence, a violation at release or install (exit 3)."""

    exit_code = 3
    code = "refused"


class GateRefused(Refused):
    """The compiled student did not keep what the plan's gate promises (exit 3)."""

    code = "gate"


class IntegrityError(ToolkitError):
    """A file is not what was signed, a signature is not by whom it should be, a key does not open it (exit 4).

    Args:
        part: the file or field that failed, as the manifest names it.
    """

    exit_code = 4
    code = "integrity"

    def __init__(self, message: str, *, part: str = "", hint: str = "", plugin: str | None = None) -> None:
        super().__init__(message, hint=hint, plugin=plugin)
        self.part = part

    def as_record(self) -> dict[str, object]:
        return super().as_record() | {"part": self.part}


class EnvironmentUnfit(ToolkitError):
    """This machine lacks what the work needs: a package, a device, disk, a service, a lock (exit 5)."""

    exit_code = 5
    code = "environment"


class PluginError(EnvironmentUnfit):
    """A plugin that cannot be imported, or two that offer the same name (exit 5)."""

    code = "plugin"
