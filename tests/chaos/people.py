"""What people do while servers die: submit while there is room, approve what waits, look whether a strike happened."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.chaos.truth import Truth

#: Sessions that are kept under way.
OPEN = 4


class People:
    """Alice, who submits, and bob, who decides, at whichever server answers."""

    def __init__(self, urls: Sequence[str], tokens: Mapping[str, str], truth: Truth, *, room: int = OPEN) -> None:
        self.submitted: list[str] = []
        self._connections = [httpx.Client(base_url=f"{url}/api/v1", timeout=5) for url in urls]
        self._clients = itertools.cycle(self._connections)
        self._alice, self._bob = ({"Authorization": f"Bearer {tokens[name]}"} for name in ("alice", "bob"))
        self._truth = truth
        self._room = room

    def work(self, *, submit: bool) -> None:
        """Do one round at the next server; one that does not answer costs a moment and nothing else."""
        client = next(self._clients)
        try:
            if submit and len(self._open(client)) < self._room:
                self._submit(client)
            for gate in self._waiting(client):
                self._decide(client, gate)
        except (httpx.HTTPError, KeyError, json.JSONDecodeError):
            time.sleep(0.02)

    def open_sessions(self) -> list[dict[str, Any]]:
        """Return the sessions that have not ended, as the API gives them."""
        return self._open(next(self._clients))

    def submit(self) -> None:
        """Submit one session at the next server."""
        self._submit(next(self._clients))

    def waiting(self) -> list[dict[str, Any]]:
        """Return the gates that wait for bob, as the API gives them."""
        return self._waiting(next(self._clients))

    def decide(self, gate: dict[str, Any]) -> None:
        """Answer one gate at the next server, as bob does."""
        self._decide(next(self._clients), gate)

    def close(self) -> None:
        """Close their connections."""
        for client in self._connections:
            client.close()

    def _submit(self, client: httpx.Client) -> None:
        body = {"query": "chaos", "environment": "dev", "graph": "chaos"}
        # The same key until it is known that it was taken, whoever takes it.
        key = {"Idempotency-Key": f"k{len(self.submitted)}"}
        answer = client.post("/sessions", json=body, headers={**self._alice, **key})
        if answer.status_code == 201:
            self.submitted.append(answer.json()["session_id"])

    def _waiting(self, client: httpx.Client) -> list[dict[str, Any]]:
        params = {"status": "pending", "limit": "100"}
        return list(client.get("/gates", params=params, headers=self._bob).raise_for_status().json()["items"])

    def _open(self, client: httpx.Client) -> list[dict[str, Any]]:
        params = {"status": "new,in_progress,awaiting_input"}
        found = client.get("/sessions", params=params, headers=self._alice)
        return list(found.raise_for_status().json()["items"])

    def _decide(self, client: httpx.Client, gate: dict[str, Any]) -> None:
        answer = {"type": "approve", "digest": gate["digest"]}
        if gate["kind"] == "unknown_outcome":
            # What a person does there: look whether it happened.
            target = gate["args"]["target"]
            if f"{gate['session_id']} {target}" in self._truth.effects():
                answer = {"type": "respond", "message": f"struck {target}", "digest": gate["digest"]}
        client.post(f"/gates/{gate['id']}/decisions", json=answer, headers=self._bob)
