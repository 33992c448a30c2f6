"""The insight page: its numbers, that each agrees with the list behind it, and the same as a file."""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.core.management import call_command

from approvals_app import insight
from approvals_app.models import AuditCheck, Gate
from approvals_app.states import Channel
from sessions_app.models import SessionEvent
from tests.conftest import question_interrupt

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


class Clock(datetime):
    """A clock to set: whoever asks Django for the time, a model's default too, gets it."""

    shows = NOW

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.shows


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr("django.utils.timezone.datetime", Clock)
    Clock.shows = NOW
    return Clock


@pytest.fixture
def end(make_gate, bob, clock):
    """Open a gate at `at` and end it so many seconds later."""

    def make(how: str, *, at: datetime = NOW, seconds: float = 60, actor=None, **fields) -> Gate:
        clock.shows = at
        gate: Gate = make_gate(**fields)
        clock.shows = at + timedelta(seconds=seconds)
        if how == "expire":
            clock.shows = gate.expires_at
            gate.expire()
        elif how == "cancel":
            gate.session.stop()
        else:
            gate.decide(how, actor=actor or bob, channel=Channel.PAGE, digest=gate.digest, message="because")
        clock.shows = NOW + timedelta(hours=1)
        return gate

    return make


def asked(**narrowed) -> insight.Asked:
    return insight.Asked(since=date(2026, 3, 1), until=date(2026, 3, 10), **narrowed)


def test_the_figures_of_a_period(end, admin, bob):
    end("approve", seconds=10)
    end("approve", seconds=1, actor=admin)
    end("reject", seconds=100)
    end("approve", at=NOW - timedelta(days=3), seconds=30)
    end("respond", seconds=50, interrupts=[question_interrupt()])
    end("expire")
    end("cancel")
    end("approve", at=NOW - timedelta(days=40))
    found = insight.look(asked())
    assert (found.whole.total, found.whole.decided, found.whole.approved) == (7, 5, 3)
    assert (found.median, found.slowest) == (timedelta(seconds=30), timedelta(seconds=50))
    assert found.expired_share == 1 / 6
    assert found.quick.number == 1
    assert [(tally.name, tally.total, tally.quick) for tally in found.approvers] == [("bob", 4, 0), ("admin", 1, 1)]
    assert {tally.name: tally.total for tally in found.outcomes} == {
        "approved": 3, "rejected": 1, "answered": 1, "expired": 1, "cancelled": 1,
    }  # fmt: skip
    assert [(tally.name, tally.total) for tally in found.tools] == [
        ("local_remediation:apply_fix", 6),
        ("a question", 1),
    ]
    assert [tally.total for tally in found.days] == [0] * 6 + [1, 0, 0, 6]


def test_every_number_is_the_length_of_the_list_behind_it(as_bob, end, admin):
    end("approve", seconds=1)
    end("approve", seconds=1, actor=admin)
    end("reject")
    end("expire")
    end("respond", interrupts=[question_interrupt()])
    end("approve", at=NOW - timedelta(days=2))
    found = insight.look(asked())
    tallies = [found.whole, *found.days, *found.tools, *found.approvers, *found.outcomes]
    numbers = [(tally.total, tally.query) for tally in tallies]
    numbers += [(tally.quick, tally.quick_query) for tally in found.approvers]
    numbers += [found.quick, found.expired, found.cut_off]
    for number, query in numbers:
        listed = as_bob.get(f"/insight/gates/?{query}").content.decode()
        assert (query, f"<h1>{number} gate") == (query, re.findall(r"<h1>\d+ gate", listed)[0])
        assert len(re.findall(r'<li id="gate-', listed)) == number
        rows = list(csv.reader(StringIO(as_bob.get(f"/insight/gates.csv?{query}").content.decode())))
        assert len(rows) == number + 1
    # All of these addresses are on the page.
    text = as_bob.get("/insight/?since=2026-03-01&until=2026-03-10").content.decode()
    for number, query in numbers:
        if number:
            assert query.replace("&", "&amp;") in text


def test_a_gate_on_the_edge_of_a_day_belongs_to_one_day_only(end):
    end("approve", at=datetime(2026, 3, 4, 23, 59, 0, tzinfo=UTC), seconds=59.999)
    end("approve", at=datetime(2026, 3, 4, 23, 59, 0, tzinfo=UTC), seconds=60)
    found = insight.look(asked())
    assert [(tally.name, tally.total) for tally in found.days if tally.total] == [("2026-03-04", 1), ("2026-03-05", 1)]
    for day in (4, 5):
        assert insight.Asked(since=date(2026, 3, day), until=date(2026, 3, day)).gates().count() == 1


def test_the_page_takes_the_same_few_queries_for_one_gate_and_for_many(as_bob, end, django_assert_max_num_queries):
    for number in range(8):
        end("approve", seconds=number)
    # Browser session, person, permissions; groups, median, ninth tenth, approvers, quick, cut off, unknown, the
    # last check; the badge, the strip, preferences.
    with django_assert_max_num_queries(14):
        as_bob.get("/insight/?since=2026-03-01&until=2026-03-10")


def test_an_empty_period_says_so(as_bob, clock):
    text = as_bob.get("/insight/").content.decode()
    assert "No gate came to an end in these days." in text
    assert "was the history checked" in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=yesterday", "Write the first day as YYYY-MM-DD."),
        ("since=2026-03-09&until=2026-03-01", "The first day is after the last one."),
        ("since=2020-01-01&until=2026-03-01", "At most 366 days at once."),
    ],
)
def test_a_period_that_is_none_is_refused_in_words(as_bob, query, said):
    page = as_bob.get(f"/insight/?{query}")
    assert (page.status_code, said in page.content.decode()) == (422, True)
    listed = as_bob.get(f"/insight/gates/?{query}")
    assert (listed.status_code, said in listed.content.decode()) == (422, True)
    assert as_bob.get(f"/insight/gates.csv?{query}").status_code == 422


def test_the_list_is_paged(as_bob, end):
    for _ in range(3):
        end("approve")
    with mock.patch("approvals_app.insight_views.PAGE_SIZE", 2):
        first = as_bob.get("/insight/gates/?since=2026-03-01&until=2026-03-10").content.decode()
        link = re.findall(r'rel="next" href="([^"]+)"', first)[0].replace("&amp;", "&")
        second = as_bob.get(link).content.decode()
    assert len(re.findall(r'<li id="gate-', first)) == 2
    assert len(re.findall(r'<li id="gate-', second)) == 1


def test_a_cell_of_the_file_is_never_a_formula(as_bob, make_gate, bob):
    gate = make_gate()
    gate.decide("reject", actor=bob, channel=Channel.PAGE, digest=gate.digest, message='=HYPERLINK("http://x")')
    text = as_bob.get("/insight/gates.csv").content.decode()
    header, row = list(csv.reader(StringIO(text)))
    found = dict(zip(header, row, strict=True))
    assert found["reason"] == '\'=HYPERLINK("http://x")'
    assert (found["approver"], found["outcome"], found["through"]) == ("bob", "rejected", "page")


def test_a_file_too_large_is_refused_rather_than_cut(as_bob, end):
    end("approve")
    end("approve")
    with mock.patch("approvals_app.insight_views.MOST_ROWS", 1):
        response = as_bob.get("/insight/gates.csv?since=2026-03-01&until=2026-03-10")
    assert response.status_code == 422
    assert b"choose fewer days" in response.content


@pytest.mark.parametrize("path", ["", "gates/", "gates.csv"])
def test_only_whoever_sees_gates_sees_insight(client, charlie, path):
    assert client.get(f"/insight/{path}").status_code == 302
    client.force_login(charlie)
    assert client.get(f"/insight/{path}").status_code == 403


def test_a_check_of_all_history_is_on_the_page_and_one_of_a_session_is_not(as_bob, make_session):
    session = make_session()
    call_command("verify_audit", session=session.pk, stdout=StringIO())
    assert not AuditCheck.objects.exists()
    call_command("verify_audit", stdout=StringIO())
    assert (AuditCheck.objects.get().sessions, AuditCheck.objects.get().faults) == (1, 0)
    assert "session as written, checked" in as_bob.get("/insight/").content.decode()
    SessionEvent.append(session.pk, "lesson_extracted", {"lesson": "x"})
    with mock.patch("approvals_app.audit.SessionEvent.hash_after", return_value="other"), pytest.raises(Exception):  # noqa: B017, PT011
        call_command("verify_audit", stdout=StringIO(), stderr=StringIO())
    assert "rows not as written" in as_bob.get("/insight/").content.decode()
