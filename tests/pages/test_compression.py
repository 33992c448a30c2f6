"""What travels compressed, and what must not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from django.http import StreamingHttpResponse
from django.http.response import ResponseHeaders
from django.test import Client, RequestFactory

from clm_site.compression import Compression
from sessions_app.models import Session

pytestmark = pytest.mark.django_db
GZIP = {"Accept-Encoding": "gzip"}
STYLE = "/static/css/clm.css"


def head_of(client: Client, path: str, **headers: str) -> tuple[int, ResponseHeaders]:
    """Get a path to its end, which closes the file behind it; return its status and headers."""
    answer = client.get(path, headers=headers)
    if answer.streaming:
        answer.getvalue()
    return answer.status_code, answer.headers


def test_pages_scripts_and_styles_travel_compressed_to_whoever_takes_it(client, alice):
    client.force_login(alice)
    for path in ("/sessions/", STYLE, "/static/js/clm.js", "/static/django_htmx/htmx-4.min.js"):
        _, headers = head_of(client, path, **GZIP)
        assert (path, headers.get("Content-Encoding")) == (path, "gzip")
        assert "Accept-Encoding" in headers["Vary"]
        assert "Content-Encoding" not in head_of(client, path)[1]


def test_an_unchanged_file_is_not_sent_again(client):
    _, first = head_of(client, STYLE, **GZIP)
    known = {"If-Modified-Since": first["Last-Modified"]}
    if "ETag" in first:
        known["If-None-Match"] = first["ETag"]
    assert head_of(client, STYLE, **GZIP, **known)[0] == 304


def test_what_the_api_gives_travels_as_it_is(client, alice, make_session):
    client.force_login(alice)
    session: Session = make_session()
    for path in ("/api/v1/sessions", f"/api/v1/sessions/{session.pk}/full"):
        assert "Content-Encoding" not in head_of(client, path, **GZIP)[1]


def test_an_event_stream_is_not_held_back_by_compression():
    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    stream = StreamingHttpResponse(events(), content_type="text/event-stream")
    request = RequestFactory().get("/", headers=GZIP)
    assert Compression(lambda request: stream).process_response(request, stream) is stream
    assert "Content-Encoding" not in stream
