"""What can go wrong, for every surface: the docstring is the text that a person reads."""

from __future__ import annotations

from typing import Any


class ClmError(Exception):
    """Something went wrong."""

    #: The REST contract's code; http.py maps it to a status.
    code = "internal_error"

    def __init__(self, text: str = "", **details: Any) -> None:
        """Take an own text, or say what the class says; `details` go to API clients as they are."""
        self.text = text or " ".join((type(self).__doc__ or "").split())
        self.details = details
        super().__init__(self.text)


class BadRequest(ClmError):
    """The request cannot be read."""

    code = "bad_request"


class Unauthorized(ClmError):
    """Say who you are: send a bearer token (manage.py issue_token USERNAME), or sign in."""

    code = "unauthorized"


class Forbidden(ClmError):
    """You may not do this."""

    code = "forbidden"


class NotFound(ClmError):
    """There is no such thing."""

    code = "not_found"


class Conflict(ClmError):
    """Somebody or something was faster; look at it again."""

    code = "conflict"


class Invalid(ClmError):
    """The values do not fit."""

    code = "unprocessable_entity"


class TooMany(ClmError):
    """Too many sessions are waiting; try again later."""

    code = "rate_limited"
    retry_after = 30


class Unavailable(ClmError):
    """A part that this needs is not there; try again later."""

    code = "service_unavailable"


class TransitionRefused(Conflict):
    """The session's status does not allow this."""


class LogIsAppendOnly(ClmError):
    """Events, decisions and gates are history: add a row, never change or delete one."""

    code = "conflict"


class UnknownEvent(ClmError):
    """That event kind or payload is not registered in events.py."""


class ConcurrentRun(Conflict):
    """The session has a run already; wait for it, or stop the session first."""


class LeaseLost(ClmError):
    """The run is no longer this worker's: another drives it, or it is over."""


class ToolRefused(ClmError):
    """The call was not run: no approving decision holds for it."""

    code = "forbidden"
