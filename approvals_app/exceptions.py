"""Why a decision was not taken, for every surface."""

from __future__ import annotations

from sessions_app.exceptions import Conflict, Forbidden, Invalid


class GateDecided(Conflict):
    """This gate was decided already."""


class GateExpired(Conflict):
    """Nobody decided in time: this gate has expired, and the call was not run."""


class GateCancelled(Conflict):
    """This gate went with its session, which has ended; nothing was run."""


class ShownOutdated(Conflict):
    """What you were shown is not what would run now: look again, then decide."""


class FactsChanged(Conflict):
    """The facts changed since this was proposed: look at them and acknowledge them, then decide."""


class GateClaimed(Conflict):
    """Somebody else is on this gate already."""


class NothingSaid(Invalid):
    """Write what you want to say."""


class NotYours(Forbidden):
    """You may not decide this gate."""


class AnswerUnfit(Invalid):
    """The agent cannot take this answer."""


class NotTogether(Invalid):
    """These gates cannot be decided together."""
