"""The errors a user can cause or must act on.

Each one says what is wrong, where (file, line or field) and what to do, and carries the exit code
that the process ends with. Anything else that is raised is our bug, and ends with code 1.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_RESOURCE = 4
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class UserError(Exception):
    """A mistake in a command or a recipe. ``str(error)`` is the whole message, ready to print."""

    exit_code = EXIT_USAGE

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  what to do: {self.remedy}" if self.remedy else head


class Invalid(UserError):  # noqa: N818
    """Values that are wrong; ``mistakes`` are the path of each and the line that the message has for it."""

    def __init__(
        self, mistakes: list[tuple[tuple[str | int, ...], str]], remedy: str = "correct the lines named above"
    ) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(dict.fromkeys(line for _, line in mistakes)), remedy=remedy)


class NotFound(UserError):  # noqa: N818  (what the web calls it)
    """What was asked for is not there."""


class Conflict(UserError):  # noqa: N818
    """It cannot be done in the state that things are in: the run runs, the name is taken, somebody uses it."""


class Forbidden(UserError):  # noqa: N818
    """Whoever asks may not do this."""


class DataError(UserError):
    """Input data, or a dataset of ours, that cannot be used as it is."""

    exit_code = EXIT_DATA


class Unreachable(DataError):  # noqa: N818
    """A server that fails for now: a run waits for it, and everything else says so at once."""


class ModelError(UserError):
    """A model folder or hub id that cannot be used as it is."""

    exit_code = EXIT_DATA


class ResourceError(UserError):
    """Too little disk or memory."""

    exit_code = EXIT_RESOURCE


class Stopped(Exception):  # noqa: N818  (not an error: somebody asked for it)
    """The work ends early because that was asked for; what was finished is kept."""

    def __init__(self, reason: str | None = None, remedy: str | None = None) -> None:
        super().__init__(reason or "stopped")
        self.reason = reason
        """Why, "stopped" or "terminated", where that is known here."""
        self.remedy = remedy
        """The command that goes on, where that is not ``rewarm resume``."""
