from __future__ import annotations

from django.apps import AppConfig


class ClmSiteConfig(AppConfig):
    """The frame: settings, URLs, system checks, the `serve` command."""

    name = "clm_site"
    verbose_name = "CLM"

    def ready(self) -> None:
        """Register the numbered checks."""
        from clm_site import checks  # noqa: F401
