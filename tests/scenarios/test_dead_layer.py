"""A channel layer that is dead costs freshness, never a decision: pages of this process are rung without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.db import database_sync_to_async

from approvals_app.states import Channel
from sessions_app import feed, streams
from tests.pages.test_sockets import opened

pytestmark = pytest.mark.django_db(transaction=True)


class DeadLayer:
    """A layer whose server is gone: whatever it is asked, it raises what only it knows."""

    class Gone(Exception):
        """Not an OSError, as with redis-py."""

    def __init__(self) -> None:
        self.asked = 0

    async def group_send(self, *args: Any) -> None:
        self.asked += 1
        raise self.Gone

    new_channel = group_add = group_discard = group_send


class HangingLayer(DeadLayer):
    """A layer behind a network that swallows everything."""

    async def group_send(self, *args: Any) -> None:
        self.asked += 1
        await asyncio.Event().wait()

    new_channel = group_add = group_discard = group_send


@pytest.mark.parametrize("kind", [DeadLayer, HangingLayer])
async def test_a_decision_is_taken_and_an_open_queue_hears_of_it(kind, bob, make_gate, monkeypatch):
    monkeypatch.setattr(feed, "PATIENCE", 0.05)
    gate = await database_sync_to_async(make_gate)()
    async with opened("/ws/queue/", bob) as queue:
        layer = kind()
        monkeypatch.setattr(feed, "get_channel_layer", lambda: layer)
        decided = await database_sync_to_async(gate.decide)(
            "approve", actor=bob, channel=Channel.API, digest=gate.digest
        )
        assert decided.pk
        frame = await queue.frame()
        while f"gate-{gate.pk}" not in frame["news"]:
            frame = await queue.frame()
        # The page did not wait for it. Once it has turned out to be dead, it is left alone for a while.
        await asyncio.gather(*feed._sending)
        asked = layer.asked
        await feed._send({"session_id": gate.session_id, "seq": 1, "kind": "gate_fired"})
        assert layer.asked == asked


async def test_a_stream_reads_on_without_being_rung(make_session, monkeypatch):
    monkeypatch.setattr(feed, "get_channel_layer", DeadLayer)
    monkeypatch.setattr(streams, "REREAD", 0.05)
    session = await database_sync_to_async(make_session)()
    pages = streams.follow(session.pk, 0, heartbeat=0.05)
    first = await anext(pages)
    await database_sync_to_async(session.stop)()
    seen = first[-1].seq
    while not (page := await anext(pages)):
        pass
    assert page[0].seq > seen
    await pages.aclose()
