"""How CLM's own connections to PostgreSQL are made, beside Django's: checkpoints, and the workers' queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection

if TYPE_CHECKING:
    from procrastinate import PsycopgConnector


def parameters(*, direct: bool = False) -> dict[str, Any]:
    """Return psycopg's parameters for the database that Django uses; `direct` goes past a pooler where one is named."""
    from psycopg.conninfo import conninfo_to_dict

    found = connection.get_connection_params()
    ours: dict[str, Any] = {
        key: value for key, value in found.items() if isinstance(value, str | int) and value and key in _KNOWN
    }
    if direct and settings.CLM_DIRECT_DATABASE_URL:
        ours = {**conninfo_to_dict(settings.CLM_DIRECT_DATABASE_URL), "dbname": ours["dbname"]}
    # A pooler in transaction mode gives each transaction another server, which knows no statement of the last.
    return {**ours, "prepare_threshold": None, "connect_timeout": 5, **_ALIVE}


def can_listen() -> bool:
    """Say whether LISTEN works: not through a pooler in transaction mode, unless there is a way past it."""
    return bool(not settings.CLM_PGBOUNCER or settings.CLM_DIRECT_DATABASE_URL)


def is_away(error: BaseException | None) -> bool:
    """Say whether `error` comes from a PostgreSQL that cannot be reached, or that ended the connection."""
    while error is not None:
        if type(error).__module__.split(".")[0] in {"psycopg", "psycopg_pool"}:
            import psycopg

            # A refusal (a constraint, a deadlock) has a code of its own; a lost connection has none, or one of these.
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                code = getattr(error, "sqlstate", None) or "08"
                return code.startswith(("08", "57P"))
        error = error.__cause__ or error.__context__
    return False


def connector(*, max_size: int) -> PsycopgConnector:
    """Return a worker's own way to the queue. It is apart from Django's, whose jobs stay part of its transactions."""
    from procrastinate import PsycopgConnector

    return PsycopgConnector(kwargs=parameters(direct=True), min_size=1, max_size=max_size, timeout=5.0)


#: Parameters of a connection that are the same for all of them; Django's cursors and encodings are its own.
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_KNOWN = frozenset({"dbname", "user", "password", "host", "port", "target_session_attrs", *_TLS})
#: A host that was cut off is noticed in half a minute, not in hours.
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
