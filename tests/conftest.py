"""The fixed cast, and how tests make sessions and gates: through the real verbs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import Group, User
from django.core.management.commands import flush
from django.db import connection
from django.utils import timezone
from langgraph.checkpoint.memory import InMemorySaver
from pytest_django.plugin import blocking_manager_key

from approvals_app import drift
from approvals_app.models import Gate
from sessions_app import engine as engines
from sessions_app import feed
from sessions_app.agents import config
from sessions_app.append_only import install_triggers, remove_triggers
from sessions_app.inprocess import Engine
from sessions_app.models import Run, Session
from tests.fakes_facts import make_resting_gate, world  # noqa: F401 - fixtures

APPEND_ONLY = (
    "sessions_app_sessionevent",
    "approvals_app_decision",
    "approvals_app_gatecall",
    "approvals_app_inquiry",
    "approvals_app_reply",
    "approvals_app_comment",
    "approvals_app_factsacknowledgement",
)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Keep no connection from one step to the next: the threads of a test end with it, and would leave theirs open."""
    connection.settings_dict["CONN_MAX_AGE"] = 0


def _commits(item: pytest.Item) -> bool:
    """Say whether the test commits for real."""
    marker = item.get_closest_marker("django_db")
    names = set(getattr(item, "fixturenames", ()))
    return bool((marker and marker.kwargs.get("transaction")) or names & {"transactional_db", "live_server"})


#: What a migration writes and no test changes; Django would empty these tables after each transactional test, and fill
#: them again.
MIGRATED = frozenset({"django_content_type", "auth_permission", "auth_group", "auth_group_permissions"})


@pytest.fixture(scope="session", autouse=True)
def _emptied_quickly(django_db_setup: None) -> Iterator[None]:
    """Delete what a transactional test wrote: on tables with so few rows that is far quicker than TRUNCATE."""

    def deletes(style: Any, tables: list[str], **options: Any) -> list[str]:
        return [f"DELETE FROM {connection.ops.quote_name(name)}" for name in tables if name not in MIGRATED]

    with (
        mock.patch.object(type(connection.ops), "sql_flush", staticmethod(deletes)),
        mock.patch.object(flush, "emit_post_migrate_signal"),
    ):
        yield


@pytest.fixture(autouse=True)
def _history_can_be_cleaned_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the append-only triggers off while a transactional test's tables are emptied."""
    if not _commits(request.node):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    connection.close_if_unusable_or_obsolete()
    _end_connections("state LIKE 'idle in transaction%'")
    if engines.scaled():
        # Its tables are no models of Django's that a test's end would empty.
        with connection.cursor() as cursor:
            for table in ("events", "periodic_defers", "jobs", "workers"):
                cursor.execute(f"DELETE FROM procrastinate_{table}")
    for table in APPEND_ONLY:
        remove_triggers(table)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Protect history again for the tests that follow, once all tables are empty."""
    try:
        yield
    finally:
        # A test that was skipped has no database of its own behind the connection.
        if nextitem and _commits(item) and "_history_can_be_cleaned_up" in getattr(item, "funcargs", ()):
            with item.config.stash[blocking_manager_key].unblock():
                for table in APPEND_ONLY:
                    install_triggers(table)
                connection.close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser's tests last: what is measured by the clock comes before they take the processors."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


@pytest.fixture(scope="session", autouse=True)
def _nobody_holds_the_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """End what a thread of a socket test left open, or PostgreSQL would not let go of the test database."""
    yield
    with django_db_blocker.unblock():
        _end_connections("true")


def _end_connections(which: str) -> None:
    """End connections of other threads: one that was left in a transaction holds up whatever comes next."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
            )


@pytest.fixture(autouse=True)
def _fresh_feed() -> Iterator[None]:
    yield
    feed._loop = None
    feed._here.clear()
    feed._dead_until = 0.0
    drift.forget()


def _person(name: str, *groups: str, **fields: Any) -> User:
    person = User.objects.create_user(name, password=name, **fields)
    person.groups.set(Group.objects.filter(name__in=groups))
    return person


@pytest.fixture
def alice(db: None) -> User:
    """The operator who requests sessions."""
    return _person("alice", "operator")


@pytest.fixture
def bob(db: None) -> User:
    """The approver."""
    return _person("bob", "approver")


@pytest.fixture
def charlie(db: None) -> User:
    """Somebody with an account and no role."""
    return _person("charlie")


@pytest.fixture
def admin(db: None) -> User:
    """The superuser."""
    return _person("admin", is_staff=True, is_superuser=True)


@pytest.fixture
def make_session(db: None) -> Callable[..., Session]:
    """Submit a session; `status="in_progress"` also claims its run."""

    def make(*, status: str = "new", **fields: Any) -> Session:
        fields = {"query": "checkout answers slowly", "environment": "dev", **fields}
        session = Session.submit(**fields)
        if status != "new":
            run = session.runs.get()
            assert run.claim("test:0:0")
            session.refresh_from_db()
        return session

    return make


@contextmanager
def driven(run: Run) -> Iterator[None]:
    """Let a run count as running for the block: the ledger takes calls of no other."""
    was = Run.objects.filter(pk=run.pk).values("status", "worker", "lease_until").get()
    lease = timezone.now() + timedelta(minutes=1)
    Run.objects.filter(pk=run.pk).update(status="running", worker="test:0:0", lease_until=lease)
    yield
    Run.objects.filter(pk=run.pk).update(**was)


def tool_interrupt(tool: str = "local_remediation__apply_fix", **args: Any) -> dict[str, Any]:
    """Return an interrupt as the runner reads it from a checkpoint."""
    number = next(_numbers)
    return {
        "id": f"interrupt{number:08d}",
        "value": {
            "type": "tool_approval",
            "tool_call_id": f"call-{number:012d}",
            "name": tool,
            "args": args or {"service": "checkout", "action": "restart"},
            "description": "The pool is full; a restart frees it.",
        },
        "response_schema": None,
    }


def question_interrupt(question: str = "Is this the right service?") -> dict[str, Any]:
    """Return the interrupt of an agent that asks for text."""
    return {
        "id": f"interrupt{next(_numbers):08d}",
        "value": {
            "type": "question",
            "reason": "low_confidence",
            "agent": "deep_investigator",
            "question": question,
            "confidence": 0.4,
        },
        "response_schema": None,
    }


@pytest.fixture
def make_gate(make_session: Callable[..., Session]) -> Callable[..., Gate]:
    """Pause a session's run at one gate and return it; `interrupts=[…]` pauses at several, the first is returned."""

    def make(session: Session | None = None, *, interrupts: list[dict[str, Any]] | None = None, **fields: Any) -> Gate:
        session = session or make_session(status="in_progress", **fields)
        run: Run = session.runs.get(status="running")
        assert run.pause(interrupts or [tool_interrupt()], checkpoint_id="checkpoint")
        return Gate.objects.filter(session=session).earliest("pk")

    return make


@pytest.fixture
async def engine(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Any]]:
    """Start what drives runs on the test's loop, with checkpoints in memory; stopped at the end.

    With CLM_ENGINE=procrastinate that is a worker; tests about the in-process engine itself take `inprocess_engine`.
    """
    if not engines.scaled():
        async for start in _starting(Engine, monkeypatch):
            yield start
        return
    from sessions_app.worker import Worker

    async for start in _starting(Worker, monkeypatch):
        yield start


@pytest.fixture
async def inprocess_engine(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Any]]:
    """Start the in-process engine, as `engine` does, however runs are driven otherwise."""
    async for start in _starting(Engine, monkeypatch):
        yield start


async def _starting(make: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Any]]:
    from sessions_app.agents import checkpointer

    saver = InMemorySaver()

    @asynccontextmanager
    async def in_memory() -> AsyncIterator[InMemorySaver]:
        yield saver

    monkeypatch.setattr(checkpointer, "open_checkpointer", in_memory)
    started: list[Any] = []

    async def start(*, limit: int = 8) -> Any:
        one = make(limit=limit)
        await one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        if engines.running() is one or not one._stopping:
            await one.stop()


@pytest.fixture(autouse=True)
def _fresh_config() -> Iterator[None]:
    yield
    config.current.cache_clear()
