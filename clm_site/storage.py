"""A database that cannot write now: a full disk, a lost connection. Every surface says so; nothing is half-written."""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from sessions_app import disk
from sessions_app.exceptions import Unavailable

log = logging.getLogger("clm.storage")

FULL = "CLM cannot write: its disk is full. Nothing of this was kept; free space there, then send it again."
AWAY = "CLM's database does not answer. Nothing of this was kept; try again in a moment."


def unavailable(error: Exception) -> Unavailable:
    """Return what to tell the client; the log has the database's own words."""
    log.error("The database cannot be written: %s", error)
    return Unavailable(FULL if disk.is_full(error) else AWAY)


class StorageErrors:
    """Answer 503 with a page, where a page's request meets such a database; the API answers for itself (http.py)."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Take the two errors that are the database's and not the request's."""
        if not isinstance(exception, (OperationalError, InterfaceError)):
            return None
        context = {"title": "Not kept", "text": unavailable(exception).text, "status": 503}
        # Without the request no context processor asks the database again.
        return render(None, "plain.html", context, status=503)
