"""The simulation against queueing theory, where theory has an answer, so that it cannot be nonsense."""

from __future__ import annotations

import random
import statistics

import pytest

from tests.simulation.desk import Desk, Drive, Load, diurnal, erlang_c


def nothing() -> float:
    return 0.0


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.6), (3, 0.7), (8, 0.75)])
def test_waiting_for_a_slot_is_that_of_erlang_c(servers, busy):
    """M/M/c: Poisson arrivals, exponential service; a resume that takes no time takes no slot from anybody."""
    chance, service = random.Random(7), 2.0
    rate = busy * servers / service
    desk = Desk(
        workers=servers,
        slots=1,
        start=Drive(thinks=lambda: chance.expovariate(1 / service), works=nothing),
        resume=Drive(thinks=nothing, works=nothing),
        person=nothing,
        seed=5,
    )
    # Every session asks for a slot twice, the second time for none of its time.
    seen = desk.run(Load(rate=lambda _: rate, most=rate, until=30_000 / rate))
    assert seen.sessions == pytest.approx(30_000, rel=0.03)
    assert statistics.fmean(seen.to_start) == pytest.approx(erlang_c(rate, service, servers), rel=0.15)


def test_erlang_c_with_one_server_is_the_formula_of_m_m_1():
    assert erlang_c(0.5, 1.0, 1) == pytest.approx(0.5 / (1 - 0.5))


def test_the_day_has_the_sessions_that_it_should_and_its_peak_at_two():
    rate, most = diurnal(100_000)
    whole = sum(rate(second) * 60 for second in range(0, 86400, 60))
    assert whole == pytest.approx(100_000, rel=0.01)
    assert max(range(0, 86400, 60), key=rate) == 14 * 3600
    assert rate(14 * 3600) == pytest.approx(most)


def test_answers_go_before_starts_and_an_outage_is_worked_off():
    desk = Desk(
        workers=1,
        slots=1,
        start=Drive(thinks=lambda: 1.0, works=nothing),
        resume=Drive(thinks=lambda: 1.0, works=nothing),
        person=lambda: 1.0,
        seed=3,
    )
    seen = desk.run(Load(rate=lambda _: 0.3, most=0.3, until=2000), outage=(500, 800))
    assert max(seen.to_start) > 300
    assert statistics.fmean(seen.to_tool) < statistics.fmean(seen.to_start)
    recovered = seen.recovered(800)
    assert recovered is not None
    # 90 sessions of 2 s each came meanwhile, and 0.4 of the time is left over for them.
    assert 800 + 180 < recovered < 800 + 1200


def test_the_same_seed_gives_the_same_numbers():
    def once() -> list[float]:
        desk = Desk(
            workers=2,
            slots=1,
            start=Drive(thinks=lambda: 1.0, works=lambda: 0.1),
            resume=Drive(thinks=lambda: 1.0, works=lambda: 0.1),
            person=lambda: 5.0,
            seed=11,
        )
        return desk.run(Load(rate=lambda _: 0.5, most=0.5, until=500)).to_tool

    assert once() == once()
