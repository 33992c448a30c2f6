"""A local server that speaks two chat protocols over real HTTP: Ollama's, and OpenAI's (with Azure's paths).

It answers from a script, one step per chat request, and keeps every request for the test to look at.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call of an answer; `id` is what an OpenAI-compatible server would send, Ollama sends none."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Answer:
    """One step: what to answer, after how long, and how fast."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    status: int = 200
    error: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: float = 0
    #: Seconds between the pieces of a streamed answer.
    trickle: float = 0
    input_tokens: int = 120
    output_tokens: int = 30


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def tools(self) -> list[str]:
        """The names of the tools that the model was offered."""
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]


class FakeModelServer:
    """A model server with a script."""

    def __init__(self, *script: Answer, key: str = "") -> None:
        """Take the answers in their order, and the key that every chat request must carry."""
        self.script = list(script)
        self.key = key
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.http = _Http(("127.0.0.1", 0), _Handler)
        self.http.fake = self
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The address without a path, which is an Ollama base_url and an Azure endpoint."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """The base_url for an OpenAI client."""
        return f"{self.url}/v1"

    @property
    def chats(self) -> list[Request]:
        """The chat requests, without the questions about models."""
        ends = ("/api/chat", "/chat/completions")
        return [request for request in self.requests if request.path.partition("?")[0].endswith(ends)]

    def next(self) -> Answer:
        """Return the next step; a script that is over says so as a server fault, so the test sees it."""
        with self.lock:
            return self.script.pop(0) if self.script else Answer(status=400, error="the script is over")

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the end of the test."""
        self.stopping.wait(seconds)

    def __enter__(self) -> FakeModelServer:
        """Start."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wake every request that sleeps."""
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._remember({})
        if self.path == "/api/tags":
            model = {
                "name": "gpt-oss:20b",
                "model": "gpt-oss:20b",
                "size": 1,
                "digest": "0" * 12,
                "details": {},
            }
            self._json(200, {"models": [model]})
        elif self.path == "/api/version":
            self._json(200, {"version": "0.12.0"})
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "gpt-oss:20b", "object": "model"}]})
        else:
            self._json(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or "{}")
        self._remember(body)
        path = self.path.partition("?")[0]
        if path == "/api/show":
            self._json(200, {"details": {}, "model_info": {}, "capabilities": ["completion", "tools"]})
        elif path == "/api/chat":
            self._ollama(body)
        elif path == "/v1/chat/completions":
            self._openai(body, self.headers.get("authorization", "").removeprefix("Bearer "))
        elif re.fullmatch(r"/openai/deployments/[^/]+/chat/completions", path) and "api-version=" in self.path:
            self._openai(body, self.headers.get("api-key", ""))
        else:
            self._json(404, {"error": {"message": f"no such path: {path}", "type": "invalid_request_error"}})

    def _remember(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.fake.requests.append(Request(self.command, self.path, headers, body))

    # Ollama

    def _ollama(self, body: dict[str, Any]) -> None:
        fake = self.server.fake
        if fake.key and self.headers.get("authorization") != f"Bearer {fake.key}":
            return self._json(401, {"error": "unauthorized"})
        answer = fake.next()
        fake.wait(answer.sleep)
        if answer.status != 200:
            return self._json(answer.status, {"error": answer.error or "failed"}, answer.headers)
        head = {"model": body["model"], "created_at": "2026-05-16T10:00:00.000000Z"}
        calls = [{"function": {"name": call.name, "arguments": dict(call.args)}} for call in answer.calls]
        end = {
            "done": True,
            "done_reason": "stop",
            "total_duration": 5_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": answer.input_tokens,
            "prompt_eval_duration": 1_000_000,
            "eval_count": answer.output_tokens,
            "eval_duration": 3_000_000,
        }
        whole = {"role": "assistant", "content": answer.text} | ({"tool_calls": calls} if calls else {})
        if body.get("stream", True) is False:
            return self._json(200, {**head, "message": whole, **end})
        pieces: list[dict[str, Any]] = [
            {**head, "message": {"role": "assistant", "content": word}, "done": False} for word in _words(answer)
        ]
        if calls:
            message = {"role": "assistant", "content": "", "tool_calls": calls}
            pieces.append({**head, "message": message, "done": False})
        pieces.append({**head, "message": {"role": "assistant", "content": ""}, **end})
        return self._stream("application/x-ndjson", (json.dumps(piece) + "\n" for piece in pieces), answer)

    # OpenAI and Azure

    def _openai(self, body: dict[str, Any], key: str) -> None:
        fake = self.server.fake
        if fake.key and key != fake.key:
            error = {"message": f"Incorrect API key provided: {key[:3]}***.", "code": "invalid_api_key"}
            return self._json(401, {"error": {**error, "type": "invalid_request_error", "param": None}})
        answer = fake.next()
        fake.wait(answer.sleep)
        if answer.status != 200:
            error = {"message": answer.error or "The server had an error.", "type": "server_error"}
            return self._json(answer.status, {"error": {**error, "param": None, "code": None}}, answer.headers)
        calls: list[dict[str, Any]] = [
            {
                "id": call.id or f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.args))},
            }
            for index, call in enumerate(answer.calls)
        ]
        head: dict[str, Any] = {
            "id": "chatcmpl-1",
            "created": 1_778_925_600,
            "model": body.get("model") or "deployed",
        }
        usage = {
            "prompt_tokens": answer.input_tokens,
            "completion_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
        why = "tool_calls" if calls else "stop"
        if not body.get("stream"):
            whole: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
            whole |= {"tool_calls": calls} if calls else {}
            choice = {"index": 0, "message": whole, "logprobs": None, "finish_reason": why}
            return self._json(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in _words(answer)]
        for index, call in enumerate(calls):
            text = call["function"]["arguments"]
            begun = {**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
            deltas.append({"tool_calls": [begun]})
            # Arguments come in pieces that are no JSON by themselves.
            for at in range(0, len(text), 7):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 7]}}]})
        choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": why})
        chunk = {**head, "object": "chat.completion.chunk"}
        pieces = [{**chunk, "choices": [choice]} for choice in choices]
        if (body.get("stream_options") or {}).get("include_usage"):
            pieces.append({**chunk, "choices": [], "usage": usage})
        lines = [*(f"data: {json.dumps(piece)}\n\n" for piece in pieces), "data: [DONE]\n\n"]
        return self._stream("text/event-stream", lines, answer)

    # HTTP

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        # A connection per request: none is left open in the client's pool when the test's loop closes.
        for name, value in {"Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.close_connection = True

    def _stream(self, kind: str, pieces: Any, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            raw = piece.encode()
            self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            self.wfile.flush()
            self.server.fake.wait(answer.trickle)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


def _words(answer: Answer) -> list[str]:
    return re.findall(r"\S+\s*", answer.text)


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    start = time.monotonic()
    yield
    taken = time.monotonic() - start
    assert taken < seconds, f"took {taken:.1f} s of at most {seconds:.1f} s"
