"""Numbered system checks: a mix of settings that cannot work, or that opens more than was meant, is said at start.

Each has a number for good, a hint that says what to do, and a line in docs/checks.md. Errors keep every command
from starting; warnings are printed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.utils.module_loading import import_string

from clm_site.installation import MOVED
from sessions_app.agents import config, models
from sessions_app.agents.config import ConfigError

#: Every number and what it means, in docs/checks.md as well; numbers are never given again.
IDS = {
    "clm.E001": "The configuration file cannot be read or is not valid.",
    "clm.E002": "The data directory cannot be written.",
    "clm.E003": "Sessions are open to everybody on an address that others can reach.",
    "clm.E004": "DEBUG is on at an address that others can reach.",
    "clm.E005": "REDIS_URL is not the address of a Redis server.",
    "clm.E006": "REDIS_URL is set, but the package that speaks to Redis is not installed.",
    "clm.E007": "A graph of CLM_GRAPHS cannot be imported.",
    "clm.E008": "DATABASE_URL names PostgreSQL, but the packages that speak to it are not all installed.",
    "clm.E009": "A number in the settings cannot work.",
    "clm.E010": "An agent's chat model cannot be had.",
    "clm.E011": "CLM_ENGINE names no engine.",
    "clm.E012": "CLM_ENGINE=procrastinate needs PostgreSQL.",
    "clm.E013": "CLM_ENGINE=procrastinate, but the package is not installed.",
    "clm.E014": "CLM_PGBOUNCER or CLM_DIRECT_DATABASE_URL does not fit DATABASE_URL.",
    "clm.E015": "The installation in the data directory has moved to PostgreSQL.",
    "clm.E016": "The database does not keep its texts as UTF-8.",
    "clm.W001": "CLM_HTTPS is off at an address that others can reach.",
    "clm.W002": "CLM listens for others, but answers only to the names of this machine.",
    "clm.W003": "The secret key is short.",
    "clm.W004": "Several processes serve and drive, but REDIS_URL is not set.",
    "clm.W005": "Several processes may serve, but each data directory has a secret key of its own.",
}

#: What the engine and the server can work with: at least, at most.
BOUNDS: dict[str, tuple[float, float]] = {
    "CLM_PORT": (0, 65_535),
    "CLM_LEASE_SECONDS": (3, 3_600),
    "CLM_MAX_ATTEMPTS": (1, 100),
    "CLM_DB_POOL": (0, 1_000),
}
SHORTEST_SECRET = 32
#: Who may drive runs.
ENGINES = ("inprocess", "procrastinate")


def error(number: str, hint: str, detail: str = "") -> Error:
    """Return a numbered error, with what is wrong in this installation after what is wrong in general."""
    return Error(f"{IDS[number]} {detail}".strip(), hint=hint, id=number)


def warning(number: str, hint: str, detail: str = "") -> Warning:
    """Return a numbered warning."""
    return Warning(f"{IDS[number]} {detail}".strip(), hint=hint, id=number)


def listens_beyond_this_machine() -> bool:
    """Say whether CLM_HOST is an address that other machines may reach."""
    host = settings.CLM_HOST.strip("[]")
    return settings.CLM_HOST not in settings.LOOPBACK and not host.startswith("127.")


@register("clm")
def check_config_file(**kwargs: Any) -> Iterator[CheckMessage]:
    """Read the one TOML file; each thing that is wrong with it is named with its line."""
    try:
        config.current()
    except ConfigError as refused:
        for problem in refused.problems:
            hint = "Correct the file that CLM_CONFIG names, or unset CLM_CONFIG; see docs/configuration.md."
            yield error("clm.E001", hint, str(problem))


@register("clm", deploy=True)
def check_chat_models(**kwargs: Any) -> Iterator[CheckMessage]:
    """Make each agent's chat model, which needs its provider's package and its key but asks nothing of it.

    Only with `check --deploy`: the keys may be in the server's environment alone, and `manage.py recover` in
    another terminal must not need them.
    """
    with contextlib.suppress(ConfigError):
        current = config.current()
        said = set()
        for agent in current.agents:
            try:
                models.chat_model(agent, current)
            except ConfigError as refused:
                if refused.text not in said:
                    said.add(refused.text)
                    hint = 'Put that right, or write model = "offline" for this agent; see docs/configuration.md.'
                    yield error("clm.E010", hint, refused.text)


@register("clm")
def check_data_directory(**kwargs: Any) -> Iterator[CheckMessage]:
    """Write a file there and drop it: a read-only disk lies about its permissions. Made when it is missing."""
    directory = settings.CLM_DATA_DIR
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as refused:
        hint = "Make it writable for the user that runs CLM, or set CLM_DATA_DIR to a directory that is."
        yield error("clm.E002", hint, f"{directory}: {refused.strerror}.")


@register("clm")
def check_moved(**kwargs: Any) -> Iterator[CheckMessage]:
    """Keep every command off the embedded files that were left behind: their runs go on elsewhere."""
    mark = settings.CLM_DATA_DIR / MOVED
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") and mark.is_file():
        hint = f"Set DATABASE_URL. To use the old files nevertheless, delete {mark}; its approved calls may run twice."
        yield error("clm.E015", hint, mark.read_text().strip())


@register("clm")
def check_reachable_from_elsewhere(**kwargs: Any) -> Iterator[CheckMessage]:
    """Hold what is only meant for one's own machine against the address that CLM listens on."""
    if not listens_beyond_this_machine():
        return
    where = f"CLM_HOST is {settings.CLM_HOST}."
    if settings.CLM_OPEN_LOOPBACK:
        hint = "Set CLM_OPEN_LOOPBACK=0 and give API clients tokens (manage.py issue_token), or listen on 127.0.0.1."
        yield error("clm.E003", hint, where)
    if settings.DEBUG:
        hint = "Set CLM_DEBUG=0: its error pages show settings and source. Or listen on 127.0.0.1."
        yield error("clm.E004", hint, where)
    if not settings.SESSION_COOKIE_SECURE:
        hint = "Put a proxy that speaks HTTPS in front and set CLM_HTTPS=1, so that cookies never travel in clear."
        yield warning("clm.W001", hint, where)
    if not set(settings.ALLOWED_HOSTS) - set(settings.LOOPBACK):
        hint = "Set CLM_ALLOWED_HOSTS to the names that people type, for example desk.example.org."
        yield warning("clm.W002", hint, where)
    if len(settings.SECRET_KEY) < SHORTEST_SECRET:
        hint = f"Set CLM_SECRET_KEY to {SHORTEST_SECRET} random characters or more, or unset it: CLM makes one."
        yield warning("clm.W003", hint, f"It has {len(settings.SECRET_KEY)} characters.")


@register("clm")
def check_redis(**kwargs: Any) -> Iterator[CheckMessage]:
    """Read REDIS_URL, which nothing else looks at before the first ring."""
    url = settings.REDIS_URL
    if not url:
        return
    if not _is_redis_address(url):
        hint = "Write redis://host:6379/0, rediss:// for TLS, or unix:///path/to/socket; unset it to do without."
        yield error("clm.E005", hint)
    if not _installed("channels_redis"):
        yield error("clm.E006", "Install CLM with its extra: pip install 'clm[redis]'.")


def _is_redis_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    return parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and port != 0


@register("clm")
def check_database_packages(**kwargs: Any) -> Iterator[CheckMessage]:
    """Look for what the checkpointer needs beside Django's own driver; it is opened only when the server starts."""
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        packages = ("psycopg", "psycopg_pool", "langgraph.checkpoint.postgres")
        if missing := [package for package in packages if not _installed(package)]:
            hint = "Install CLM with its extra: pip install 'clm[postgres]'."
            yield error("clm.E008", hint, f"Missing: {', '.join(missing)}.")


@register(Tags.database)
def check_encoding(databases: Sequence[str] | None = None, **kwargs: Any) -> Iterator[CheckMessage]:
    """Ask PostgreSQL how it keeps texts, before `migrate` makes a table: without UTF-8, names come back as bytes."""
    for alias in databases or ():
        if (connection := connections[alias]).vendor != "postgresql":
            continue
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_encoding")
            (encoding,) = cursor.fetchone() or ("",)
        encoding = encoding.decode() if isinstance(encoding, bytes) else encoding
        if encoding != "UTF8":
            hint = "Make one with: CREATE DATABASE clm ENCODING 'UTF8' TEMPLATE template0;"
            yield error("clm.E016", hint, f"Its encoding is {encoding}.")


@register("clm")
def check_engine(**kwargs: Any) -> Iterator[CheckMessage]:
    """Hold who drives runs against what that needs."""
    if settings.CLM_ENGINE not in ENGINES:
        yield error("clm.E011", f"Set CLM_ENGINE to {' or '.join(ENGINES)}.", f"It is {settings.CLM_ENGINE!r}.")
    if settings.CLM_ENGINE != "procrastinate":
        return
    if not settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        hint = "Set DATABASE_URL to a PostgreSQL database, or CLM_ENGINE=inprocess for the embedded one."
        yield error("clm.E012", hint)
    if not _installed("procrastinate"):
        yield error("clm.E013", "Install CLM with its extra: pip install 'clm[procrastinate]'.")
    if not settings.REDIS_URL:
        hint = "Set REDIS_URL, or live with pages that hear of what workers do a second late, and not who reads a gate."
        yield warning("clm.W004", hint)
    if not settings.CLM_SECRET_KEY_GIVEN:
        hint = "Set CLM_SECRET_KEY to the same value on every web host, or people are signed out from host to host."
        yield warning("clm.W005", hint)


@register("clm")
def check_pooler(**kwargs: Any) -> Iterator[CheckMessage]:
    """Read what is said of a pooler; nothing else looks at it before a worker listens."""
    direct = settings.CLM_DIRECT_DATABASE_URL
    if not direct and not settings.CLM_PGBOUNCER:
        return
    if not settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        yield error("clm.E014", "Set DATABASE_URL to the pooler's address, or unset both.")
    if direct and urlsplit(direct).scheme not in {"postgres", "postgresql"}:
        hint = "Write CLM_DIRECT_DATABASE_URL as postgresql://user:password@host:port/name, past the pooler."
        yield error("clm.E014", hint)


@register("clm")
def check_graphs(**kwargs: Any) -> Iterator[CheckMessage]:
    """Import each graph of one's own now, not when the first session asks for it."""
    for name, path in settings.CLM_GRAPHS.items():
        hint = f"Write CLM_GRAPHS as {name}=package.module.function, where the function returns a GraphSpec."
        try:
            found = import_string(path)
        except Exception as refused:  # noqa: BLE001 - importing runs somebody's module, which may raise anything
            yield error("clm.E007", hint, f"{name}={path}: {type(refused).__name__}: {refused}.")
        else:
            if not callable(found):
                yield error("clm.E007", hint, f"{name}={path} is not a function.")


@register("clm")
def check_numbers(**kwargs: Any) -> Iterator[CheckMessage]:
    """Hold each number against what the engine and the server can work with."""
    for name, (least, most) in BOUNDS.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            yield error("clm.E009", f"Set {name} to {least:g} to {most:g}, or unset it.", f"{name} is {value}.")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
