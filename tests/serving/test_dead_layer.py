"""Redis dies in the middle: decisions go on, open pages hear of them, and all is as before when it is back."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.chaos.script import EFFECTS, RULES
from tests.serving.conftest import Redis
from tests.serving.desk import Person, make_people
from tests.serving.server import serving

pytestmark = [pytest.mark.timeout(400), pytest.mark.redis, pytest.mark.processes]


def test_decisions_and_open_pages_do_without_redis_and_take_it_up_again(tmp_path: Path, redis: Redis) -> None:
    config = tmp_path / "clm.toml"
    config.write_text(RULES)
    graphs = {"CLM_CONFIG": str(config), "CLM_GRAPHS": "chaos=tests.chaos.graph.spec"}
    with serving(tmp_path, port=None, REDIS_URL=redis.url, **graphs) as server:
        make_people(server, bob="approver")
        bob = Person(server, "bob")
        body = {"query": "strike", "environment": "dev", "graph": "chaos"}
        session = httpx.post(f"{server.url}/api/v1/sessions", json=body, timeout=30).json()["session_id"]
        first, second = bob.wait_for_gates(session, 2)
        with bob.queue_socket() as page:
            redis.kill()
            assert bob.approve(first).status_code == 201
            frame = page.wait_for(f"gate-{first['id']}")
            assert f'hx-target="#rows #gate-{first["id"]}" hx-swap="outerMorph"' in frame["content"]
            assert f'id="gate-{first["id"]}"' not in bob.page("/approvals/")
            error = httpx.get(f"{server.url}/readyz", timeout=30).json()["error"]
            assert error["code"] == "service_unavailable"
            assert error["details"]["checks"]["layer"] != "ok"
            assert error["details"]["checks"]["engine"] == error["details"]["checks"]["sweep"] == "ok"
            redis.start()
            server.wait_until_ready()
            assert bob.approve(second).status_code == 201
            page.wait_for(f"gate-{second['id']}")
        (third,) = bob.wait_for_gates(session, 1)
        with bob.queue_socket() as page:
            assert bob.approve(third).status_code == 201
            page.wait_for(f"gate-{third['id']}")
        server.wait_for(session, "resolved")
    assert len((tmp_path / "effects.log").read_text().splitlines()) == len(EFFECTS)
