"""Pages, scripts and styles travel compressed; what the API gives, and what is read while it is written, does not."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

#: What is worth it. An event stream is not among them: each event must arrive when it happens.
WORTH_IT = frozenset({"text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml"})


class Compression(GZipMiddleware):
    """Django's own, which pads each answer at random (BREACH), kept to the types that gain by it."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Compress where the browser takes it."""
        if response.get("Content-Type", "").partition(";")[0] not in WORTH_IT:
            return response
        answer = super().process_response(request, response)
        if answer.streaming and answer.has_header("Content-Encoding"):
            # A weak tag is one that WhiteNoise does not know again; by its date it knows the file.
            del answer["ETag"]
        return answer
