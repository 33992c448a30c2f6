"""Which services stand in which environment, and how they are reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from sessions_app.demo import supervisor

DEMO_ENVIRONMENT = "dev"


@dataclass(frozen=True, kw_only=True)
class ServiceHandle:
    """One service that the tools may read and, where it gave out a token, change."""

    name: str
    environment: str
    url: str
    log: Path | None = None
    token: str = ""


def services(environment: str) -> dict[str, ServiceHandle]:
    """Return the services of an environment by name.

    The demo service is one of them while its process lives. Others come from the setting `CLM_SERVICES`, a
    mapping of name to `environment`, `url`, and where there is one `log` (a file) and `token` (for the admin
    paths).
    """
    found: dict[str, ServiceHandle] = {}
    directory = Path(settings.CLM_DATA_DIR) / "demo"
    if environment == DEMO_ENVIRONMENT and (address := supervisor.find(directory)) is not None:
        found[address.name] = ServiceHandle(
            name=address.name,
            environment=environment,
            url=address.url,
            log=directory / "service.log",
            token=address.token,
        )
    for name, given in (getattr(settings, "CLM_SERVICES", None) or {}).items():
        if given.get("environment") == environment:
            log = given.get("log")
            found[name] = ServiceHandle(
                name=name,
                environment=environment,
                url=str(given["url"]).rstrip("/"),
                log=Path(log) if log else None,
                token=given.get("token", ""),
            )
    return found


def missing(name: str, environment: str) -> dict[str, str]:
    """Say honestly that a service is not there, and which ones are."""
    there = sorted(services(environment))
    if not there:
        return {
            "error": f"No service is known in {environment}.",
            "hint": "Nothing can be read or changed there. Services are listed in CLM_SERVICES; the demo "
            "service runs in dev while `manage.py serve --demo` does.",
        }
    return {
        "error": f"No service {name!r} is known in {environment}.",
        "hint": f"Known there: {', '.join(there)}.",
    }
