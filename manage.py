#!/usr/bin/env python
"""Run CLM's commands: `python manage.py serve`, `… migrate`, `… rerun`, `… issue_token`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Hand the command line to Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clm_site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"CLM cannot start: {error}")


if __name__ == "__main__":
    main()
