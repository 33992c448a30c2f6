"""The one settings file: no configuration runs the embedded default, the environment scales it.

Every variable is described in docs/configuration.md; an incoherent mix fails a numbered check (`checks.py`).
"""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import csp.constants
from django.core.exceptions import ImproperlyConfigured

from clm_site.installation import KEY, RECORDS

BASE_DIR = Path(__file__).resolve().parent.parent
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


def env_str(name: str, default: str = "") -> str:
    """Return the variable's text, or `default` where it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, *, default: bool) -> bool:
    """Return the variable as yes or no; anything else is refused by name."""
    text = env_str(name).lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {text!r}: write 1 or 0.")


def env_int(name: str, default: int) -> int:
    """Return the variable as a whole number; anything else is refused by name."""
    text = env_str(name)
    try:
        return int(text) if text else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {text!r}: write a whole number.") from None


def env_list(name: str, default: list[str]) -> list[str]:
    """Return the variable's comma-separated parts."""
    text = env_str(name)
    return [part.strip() for part in text.split(",") if part.strip()] if text else default


def env_map(name: str) -> dict[str, str]:
    """Return the variable's comma-separated `key=value` parts; one without both is refused by name."""
    parts = [part.partition("=") for part in env_list(name, [])]
    for key, _, value in parts:
        if not key.strip() or not value.strip():
            raise ImproperlyConfigured(f"{name} has {key or value!r}: write name=package.module.factory,…")
    return {key.strip(): value.strip() for key, _, value in parts}


def secret_key(directory: Path) -> str:
    """Return CLM_SECRET_KEY, or the key kept in the data directory, made on first use.

    Made with O_EXCL, so two processes that start together end with one key.
    """
    if key := env_str("CLM_SECRET_KEY"):
        return key
    path = directory / KEY
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    except OSError as error:
        raise ImproperlyConfigured(
            f"CLM cannot write to its data directory {directory} ({error.strerror}): "
            "make it writable, or set CLM_DATA_DIR to a directory that is."
        ) from None
    return path.read_text().strip()


def database(url: str, directory: Path, *, pool: int = 0, pgbouncer: bool = False) -> dict[str, Any]:
    """Return Django's database entry for DATABASE_URL, or for the embedded SQLite file.

    On PostgreSQL a process opens at most `pool` connections for its pages (0: one per thread).
    """
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": directory / RECORDS,
            "OPTIONS": {
                # A writer takes its lock when it begins, so no transaction fails half-way on an upgrade.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                # Pages that are written again and again go from the log into the file once in 32 MB, not in 4.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
                "PRAGMA wal_autocheckpoint=8000;",
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            f"DATABASE_URL starts with {parts.scheme!r}: write postgresql://user:password@host:port/name."
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        # A pool has connections of its own; without one, each thread keeps its own for a while.
        "CONN_MAX_AGE": 0 if pool else 60,
        "CONN_HEALTH_CHECKS": True,
        # What a pooler in transaction mode cannot carry from one transaction to the next.
        "DISABLE_SERVER_SIDE_CURSORS": pgbouncer,
        "OPTIONS": {
            # Pages ask for little of much: compiling such a query takes longer than the query, and workers' start too.
            **({} if pgbouncer else {"options": "-c jit=off -c max_parallel_workers_per_gather=0"}),
            **dict(parse_qsl(parts.query)),
            **({"pool": {"min_size": 0, "max_size": pool, "timeout": 10}} if pool else {}),
        },
    }


# Where it runs ------------------------------------------------------------------------------------------------
CLM_DATA_DIR = Path(env_str("CLM_DATA_DIR", str(BASE_DIR / "var"))).expanduser().resolve()
CLM_HOST = env_str("CLM_HOST", "127.0.0.1")
CLM_PORT = env_int("CLM_PORT", 8000)
CLM_CONFIG = Path(env_str("CLM_CONFIG")).expanduser() if env_str("CLM_CONFIG") else None
CLM_DEMO_PASSWORD = env_str("CLM_DEMO_PASSWORD")
CLM_ONCALL_WEBHOOK = env_str("CLM_ONCALL_WEBHOOK")
CLM_SERVICES: dict[str, dict[str, str]] = {}

DATABASE_URL = env_str("DATABASE_URL")
REDIS_URL = env_str("REDIS_URL")
CLM_DB_POOL = env_int("CLM_DB_POOL", 10)
CLM_PGBOUNCER = env_bool("CLM_PGBOUNCER", default=False)
CLM_DIRECT_DATABASE_URL = env_str("CLM_DIRECT_DATABASE_URL")

# Who drives runs: the server itself, or any number of `manage.py worker` (docs/scaling.md).
CLM_ENGINE = env_str("CLM_ENGINE", "inprocess")

# The engine of background runs: seconds unless said otherwise.
CLM_LEASE_SECONDS = env_int("CLM_LEASE_SECONDS", 15)
CLM_MAX_ATTEMPTS = env_int("CLM_MAX_ATTEMPTS", 3)
CLM_POLL_SECONDS = 1.0
CLM_SWEEP_SECONDS = 5.0

# Graphs of one's own: CLM_GRAPHS="billing=my_package.graphs.billing_spec,…" (docs/configuration.md).
CLM_GRAPHS = env_map("CLM_GRAPHS")

# Starting and reading sessions without a token: the embedded profile on loopback only (see http.py).
CLM_OPEN_LOOPBACK = env_bool("CLM_OPEN_LOOPBACK", default=CLM_HOST in LOOPBACK and not DATABASE_URL)

# Django -------------------------------------------------------------------------------------------------------
DEBUG = env_bool("CLM_DEBUG", default=False)
SECRET_KEY = secret_key(CLM_DATA_DIR)
CLM_SECRET_KEY_GIVEN = bool(env_str("CLM_SECRET_KEY"))
ALLOWED_HOSTS = env_list(
    "CLM_ALLOWED_HOSTS",
    sorted({"127.0.0.1", "localhost", "[::1]", CLM_HOST} - {"0.0.0.0", "::"}),  # noqa: S104 - taken out
)
CSRF_TRUSTED_ORIGINS = env_list("CLM_TRUSTED_ORIGINS", [])
ROOT_URLCONF = "clm_site.urls"
ASGI_APPLICATION = "clm_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "csp",
    "django_htmx",
    "ninja",
    "sessions_app",
    "approvals_app",
    "clm_site",
]
if CLM_ENGINE == "procrastinate" and DATABASE_URL and find_spec("procrastinate"):
    # Its tables are PostgreSQL's alone. Where it is missing, a check says so.
    INSTALLED_APPS.insert(INSTALLED_APPS.index("sessions_app"), "procrastinate.contrib.django")

MIDDLEWARE = [
    "clm_site.http.ApiErrors",
    "django.middleware.security.SecurityMiddleware",
    "clm_site.compression.Compression",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "clm_site.storage.StorageErrors",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "clm_site.context.desk",
            ],
        },
    },
]

DATABASES = {"default": database(DATABASE_URL, CLM_DATA_DIR, pool=CLM_DB_POOL, pgbouncer=CLM_PGBOUNCER)}

CHANNEL_LAYERS: dict[str, Any] = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["clm_site.permissions.OneQueryBackend"]
LOGIN_URL = "sign_in"
LOGIN_REDIRECT_URL = "queue"
LOGOUT_REDIRECT_URL = "sign_in"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from where they lie, so a fresh clone needs no collectstatic.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 0 if DEBUG else 600

# Strict: nothing inline, nothing from elsewhere (docs/architecture.md, "The browser").
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.constants.SELF],
        "img-src": [csp.constants.SELF, "data:"],
        "object-src": [csp.constants.NONE],
        "base-uri": [csp.constants.NONE],
        "form-action": [csp.constants.SELF],
        "frame-ancestors": [csp.constants.NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_NAME = "clm_session"
CSRF_COOKIE_NAME = "clm_csrf"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env_bool("CLM_HTTPS", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SESSION_COOKIE_SECURE else None

DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env_str("CLM_LOG_LEVEL", "WARNING").upper()},
    "loggers": {
        "clm": {"level": env_str("CLM_LOG_LEVEL", "INFO").upper()},
        "django.request": {"level": "ERROR"},
    },
}
