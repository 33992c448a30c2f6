"""How many files this process may have open: every open page, stream and database connection is one."""

from __future__ import annotations

import resource

#: What a process needs besides its pages: databases, log, event loop, libraries that load late.
BESIDES = 100
#: More is of no use to one process.
MANY = 65536
#: Below this a handful of browsers could use it up.
FEW = 1024


def raise_limit() -> int:
    """Raise the soft limit as far as it may be, and return it; many systems give a process 1,024 of far more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY if hard == resource.RLIM_INFINITY else min(hard, MANY)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MANY if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def warning(limit: int) -> str:
    """Return what to say about a limit, or nothing where it is enough."""
    if limit >= FEW:
        return ""
    pages = max(0, limit - BESIDES)
    return (
        f"This process may open {limit} files, enough for about {pages} open pages and streams; more are refused. "
        "Raise it: ulimit -n 65536, LimitNOFILE=65536 in a systemd unit, or nofile in the container's ulimits."
    )
