"""Run `checkout`, a small HTTP service with real faults and fixes that really act.

It takes orders (`/work`): each borrows a connection of a bounded pool (SQLite connections to `orders.db`),
prices the order with the code of the version that is live, stores it, holds the connection while "the payment
provider" answers, and writes a receipt to a spool directory with a quota. An internal customer sends a steady
stream of orders through that same code, so every number in `/metrics` was measured, none is canned.

One fault at a time, and what heals it:

- `pool_exhausted`: a batch job keeps 19 of the pool's 20 connections, so orders wait and time out. Healed by
  `resize_pool` to at least 24. A `restart` drops the batch's connections, but it comes back for them after
  half a window. Rolling back or cleaning up changes nothing about it.
- `bad_deploy`: a new version goes live whose pricing raises for orders that carry a coupon (three in five).
  Healed by `roll_back`, because the fault is in the code: it survives a restart.
- `memory_leak`: a warm-up that went wrong fills a cache that nothing evicts, up to 72 MB, and orders slow
  down with it. Healed by `restart`, which replaces the process (same pid, same port): the memory is given
  back.
- `disk_full`: crash dumps fill the spool's quota and receipts cannot be written. Healed by `clean_up`.

What lasts (version, pool size, deployment history, the fault) is kept in `state.json`, so a fault outlives a
restart of the server that owns this process. Standard library only, and nothing of Django: it is a stranger
to CLM that CLM reads over HTTP.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import queue
import secrets
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

NAME = "checkout"
FAULTS = ("pool_exhausted", "bad_deploy", "memory_leak", "disk_full")

POOL_SIZE = 20
BATCH_CONNECTIONS = 19
ROOM_FOR_ORDERS = 5
HOLD_SECONDS = 0.12
ACQUIRE_SECONDS = 0.5
CUSTOMERS = 16
MEMORY_LIMIT = 100 * 2**20
LEAK_FIRST = 52 * 2**20
LEAK_MOST = 72 * 2**20
LEAK_STEP = 2**20
SPOOL_QUOTA = 2 * 2**20
RECEIPTS_KEPT = 40
LOG_BYTES = 256 * 1024
BUCKETS = (0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
TICK_SECONDS = 0.25


class PoolTimeout(Exception):
    """No connection became free in time."""


class Refused(Exception):
    """The asked-for change makes no sense here."""


def now() -> datetime:
    """Return the wall-clock time, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Write a moment the way the log and the history do."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_atomically(path: Path, data: dict[str, Any], mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        json.dump(data, file)
    fresh.replace(path)


class Log:
    """A log file that keeps at most two times `LOG_BYTES`."""

    def __init__(self, path: Path) -> None:
        """Open the log for appending."""
        self.path = path
        self.lock = threading.Lock()
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, level: str, text: str) -> None:
        """Append a line; the full file becomes `service.log.1`."""
        with self.lock:
            self.file.write(f"{stamp(now())} {level} {NAME} {text}\n")
            if self.file.tell() > LOG_BYTES:
                self.file.close()
                self.path.replace(self.path.with_suffix(".log.1"))
                self.file = self.path.open("a", encoding="utf-8", buffering=1)


class Pool:
    """A bounded pool of database connections; a borrower waits at most `ACQUIRE_SECONDS`."""

    def __init__(self, database: Path, size: int) -> None:
        """Make an empty pool; connections open when they are first wanted."""
        self.database = database
        self.size = size
        self.in_use = 0
        self.waiting = 0
        self.idle: list[sqlite3.Connection] = []
        self.free = threading.Condition()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.database, check_same_thread=False, isolation_level=None, cached_statements=4)
        # What an order is worth here does not justify an fsync per row.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=16")
        return connection

    def acquire(self, seconds: float) -> sqlite3.Connection:
        """Borrow a connection, or raise `PoolTimeout` when none came free in time."""
        until = time.monotonic() + seconds
        with self.free:
            self.waiting += 1
            try:
                while self.in_use >= self.size:
                    left = until - time.monotonic()
                    if left <= 0 or not self.free.wait(left):
                        raise PoolTimeout
            finally:
                self.waiting -= 1
            self.in_use += 1
            return self.idle.pop() if self.idle else self._open()

    def release(self, connection: sqlite3.Connection) -> None:
        """Give a connection back."""
        with self.free:
            self.in_use -= 1
            if self.in_use + len(self.idle) < self.size:
                self.idle.append(connection)
            else:
                connection.close()
            self.free.notify()

    def resize(self, size: int) -> None:
        """Change how many connections may be out at once; waiting borrowers get the new ones."""
        with self.free:
            self.size = size
            while self.idle and self.in_use + len(self.idle) > size:
                self.idle.pop().close()
            self.free.notify_all()

    def reading(self) -> tuple[int, int, int]:
        """Return size, in use and waiting, taken at one moment."""
        with self.free:
            return self.size, self.in_use, self.waiting


class Meter:
    """What was measured: totals since the start, and a short sliding window."""

    def __init__(self, window: float) -> None:
        """Start counting at nought."""
        self.window = window
        self.started = time.monotonic()
        self.lock = threading.Lock()
        self.recent: deque[tuple[float, str, float]] = deque()
        self.totals: Counter[str] = Counter({"200": 0, "500": 0, "503": 0, "507": 0})
        self.buckets: Counter[float] = Counter()
        self.seconds = 0.0
        self.in_flight = 0

    @contextlib.contextmanager
    def flight(self) -> Iterator[None]:
        """Count an order as being handled."""
        with self.lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self.lock:
                self.in_flight -= 1

    def count(self, status: str, seconds: float) -> None:
        """Record how one order ended."""
        with self.lock:
            self.totals[status] += 1
            self.seconds += seconds
            self.buckets[next((edge for edge in BUCKETS if seconds <= edge), float("inf"))] += 1
            self.recent.append((time.monotonic(), status, seconds))
            self._trim()

    def _trim(self) -> None:
        oldest = time.monotonic() - self.window
        while self.recent and self.recent[0][0] < oldest:
            self.recent.popleft()

    def reading(self) -> dict[str, Any]:
        """Summarise the window."""
        with self.lock:
            self._trim()
            recent = list(self.recent)
            in_flight = self.in_flight
        durations = sorted(seconds for _, _, seconds in recent)
        failed = sum(1 for _, status, _ in recent if status != "200")

        def quantile(share: float) -> float:
            return durations[min(len(durations) - 1, int(share * len(durations)))] if durations else 0.0

        return {
            "requests": len(recent),
            "error_ratio": failed / len(recent) if recent else 0.0,
            "pool_timeouts": sum(1 for _, status, _ in recent if status == "503"),
            "rate": len(recent) / self.window,
            "p50": quantile(0.5),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
            "in_flight": in_flight,
            "uptime": time.monotonic() - self.started,
        }


class Checkout:
    """The service itself: its parts, its faults and its fixes."""

    def __init__(self, directory: Path, *, window: float, first_fault: str, replaced: bool) -> None:
        """Load what lasted from the directory, or begin with `first_fault` where nothing did."""
        self.directory = directory
        self.spool = directory / "spool"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.log = Log(directory / "service.log")
        self.changing = threading.RLock()
        self.state = self._load(first_fault)
        self.meter = Meter(window)
        self.pool = Pool(directory / "orders.db", self.state["pool_size"])
        self.batch: list[sqlite3.Connection] = []
        # A restart is a short relief: the batch needs a moment to notice that it lost its connections.
        self.batch_from = time.monotonic() + (window / 2 if replaced else 0)
        self.cache: list[bytearray] = []
        self.receipts: deque[Path] = deque(sorted(self.spool.glob("receipt-*")))
        self.spool_used = sum(path.stat().st_size for path in self.spool.iterdir())
        connection = self.pool.acquire(ACQUIRE_SECONDS)
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS orders (slot INTEGER PRIMARY KEY, number INTEGER, cents INTEGER)"
        )
        self.orders: int = connection.execute("SELECT coalesce(max(number), 0) FROM orders").fetchone()[0]
        self.pool.release(connection)
        if self.state["fault"] == "disk_full":
            self._fill_spool()
        self.log.write("INFO", f"started: version {self.state['version']}, pool of {self.state['pool_size']}")

    # What lasts

    def _load(self, first_fault: str) -> dict[str, Any]:
        path = self.directory / "state.json"
        try:
            stored: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            pass
        except ValueError:
            self.log.write("WARN", "state.json cannot be read and is begun again")
        else:
            return stored
        state: dict[str, Any] = {
            "version": "4.1.9",
            "pool_size": POOL_SIZE,
            "fault": None,
            "broken": [],
            "deployments": [
                {"version": "4.1.8", "at": stamp(now() - timedelta(days=3)), "kind": "deploy", "by": "mira"},
                {
                    "version": "4.1.9",
                    "at": stamp(now() - timedelta(hours=26)),
                    "kind": "deploy",
                    "by": "jonas",
                },
            ],
        }
        if first_fault:
            self._set_fault(state, first_fault)
        write_atomically(path, state)
        return state

    def _save(self) -> None:
        write_atomically(self.directory / "state.json", self.state)

    # The business

    def price(self, number: int) -> int:
        """Price an order in cents, with the code of the version that is live."""
        coupon: dict[str, Any] | None = {"code": "SPRING", "percent": 10} if number % 5 < 3 else None
        cents = 1999 + number % 7 * 100
        if coupon is None:
            return cents
        if self.state["version"] in self.state["broken"]:
            # The bad version reads a field that coupons do not have.
            return cents * int(100 - coupon["discount"]) // 100
        return cents * int(100 - coupon["percent"]) // 100

    def take_order(self) -> tuple[int, dict[str, Any]]:
        """Handle one order, from the pool to the receipt; return the HTTP status and the answer."""
        self.orders += 1
        number = self.orders
        started = time.monotonic()
        with self.meter.flight():
            try:
                cents = self._store(number)
            except PoolTimeout:
                size, in_use, waiting = self.pool.reading()
                status, answer = 503, "no database connection"
                reason = (
                    f"timed out waiting for a database connection after {int(ACQUIRE_SECONDS * 1000)} ms "
                    f"(pool {in_use}/{size}, {waiting} waiting)"
                )
            except OSError as error:
                status, answer, reason = 507, "receipt cannot be written", str(error)
            except Exception as error:  # noqa: BLE001 - a broken version fails one order, not the service
                status, answer = 500, "internal error"
                reason = f"{type(error).__name__}: {error} in price() of version {self.state['version']}"
            else:
                status, answer, reason = 200, "paid", ""
        self.meter.count(str(status), time.monotonic() - started)
        if reason:
            self.log.write("ERROR", f"order {number} failed: {reason}")
            return status, {"order": number, "error": answer}
        return status, {"order": number, "cents": cents, "status": answer}

    def _store(self, number: int) -> int:
        connection = self.pool.acquire(ACQUIRE_SECONDS)
        try:
            cents = self.price(number)
            connection.execute("REPLACE INTO orders VALUES (?, ?, ?)", (number % 500, number, cents))
            # The provider answers in HOLD_SECONDS; a swollen cache makes everything slower in proportion.
            time.sleep(HOLD_SECONDS * (1 + len(self.cache) * LEAK_STEP / (16 * 2**20)))
        finally:
            self.pool.release(connection)
        self._write_receipt(number, cents)
        return cents

    def _write_receipt(self, number: int, cents: int) -> None:
        """Write the new receipt before the oldest goes, so that a full spool really stops the business."""
        text = f"order {number}\namount {cents}\n".ljust(1024)
        path = self.spool / f"receipt-{number:09d}.txt"
        with self.changing:
            if self.spool_used + len(text) > SPOOL_QUOTA:
                raise OSError(errno.ENOSPC, "No space left on device", f"spool/{path.name}")
            path.write_text(text)
            self.spool_used += len(text)
            self.receipts.append(path)
            while len(self.receipts) > RECEIPTS_KEPT:
                oldest = self.receipts.popleft()
                self.spool_used -= oldest.stat().st_size
                oldest.unlink()

    # Faults

    def _set_fault(self, state: dict[str, Any], fault: str | None) -> None:
        """Write a fault's lasting part into a state, in place of any other fault."""
        if state["fault"] == "bad_deploy" and state["version"] in state["broken"]:
            self._go_live(state, self._last_good(state), "rollback")
        state.update(fault=fault, pool_size=POOL_SIZE)
        if fault == "bad_deploy":
            numbers = {entry["version"] for entry in state["deployments"]} | set(state["broken"])
            minor = 2
            while (version := f"4.{minor}.0") in numbers:
                minor += 1
            state["broken"].append(version)
            self._go_live(state, version, "deploy")

    def _go_live(self, state: dict[str, Any], version: str, kind: str) -> None:
        self.log.write("INFO", f"{kind}: version {version} is live (was {state['version']})")
        state["version"] = version
        state["deployments"].append({"version": version, "at": stamp(now()), "kind": kind, "by": "release-bot"})
        del state["deployments"][:-50]

    def _last_good(self, state: dict[str, Any]) -> str:
        for entry in reversed(state["deployments"]):
            if entry["version"] != state["version"] and entry["version"] not in state["broken"]:
                return str(entry["version"])
        raise Refused("there is no earlier version to go back to")

    def _fill_spool(self) -> None:
        """Fill the quota with crash dumps, down to the last byte."""
        with self.changing:
            index = 0
            while (left := SPOOL_QUOTA - self.spool_used) > 0:
                size = min(left, 512 * 1024)
                (self.spool / f"core.{os.getpid()}.{index}").write_bytes(b"\x7fELF".ljust(size, b"\0")[:size])
                self.spool_used += size
                index += 1

    def _empty_spool(self) -> int:
        """Delete the crash dumps; return the bytes that came free."""
        freed = 0
        with self.changing:
            for path in self.spool.glob("core.*"):
                freed += path.stat().st_size
                path.unlink()
            self.spool_used -= freed
        return freed

    def _drop_batch(self) -> None:
        for connection in self.batch:
            self.pool.release(connection)
        self.batch.clear()

    def break_(self, fault: str) -> dict[str, Any]:
        """Bring in a fault, in place of the one that is there."""
        if fault not in FAULTS:
            raise Refused(f"unknown fault {fault!r}; known are {', '.join(FAULTS)}")
        with self.changing:
            self._clear()
            self._set_fault(self.state, fault)
            self.pool.resize(self.state["pool_size"])
            self.batch_from = time.monotonic()
            if fault == "disk_full":
                self._fill_spool()
            self._save()
        return {"fault": fault, "version": self.state["version"]}

    def heal(self) -> dict[str, Any]:
        """Take every fault away (for the person who runs the demo; no tool calls this)."""
        with self.changing:
            was = self.state["fault"]
            self._clear()
            self._set_fault(self.state, None)
            self.pool.resize(self.state["pool_size"])
            self._save()
        return {"fault": None, "was": was}

    def _clear(self) -> None:
        self.cache.clear()
        self._drop_batch()
        self._empty_spool()

    # Fixes

    def resize_pool(self, size: object) -> dict[str, Any]:
        """Set the pool's size; it heals `pool_exhausted` where batch and orders then both fit."""
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 64:
            raise Refused("resize_pool needs a size from 1 to 64")
        with self.changing:
            before = self.state["pool_size"]
            self.state["pool_size"] = size
            fits = size >= BATCH_CONNECTIONS + ROOM_FOR_ORDERS
            if self.state["fault"] == "pool_exhausted" and fits:
                # The batch keeps what it has: it harms nobody any more. A restart sends it away.
                self.state["fault"] = None
            elif self.batch and not fits:
                self.state["fault"] = "pool_exhausted"
            self.pool.resize(size)
            self._save()
        self.log.write("INFO", f"pool resized from {before} to {size}")
        return {"pool_size": {"from": before, "to": size}}

    def roll_back(self) -> dict[str, Any]:
        """Make the version before this one live; it heals `bad_deploy`."""
        with self.changing:
            before = self.state["version"]
            self._go_live(self.state, self._last_good(self.state), "rollback")
            if self.state["fault"] == "bad_deploy":
                self.state["fault"] = None
            self._save()
        return {"version": {"from": before, "to": self.state["version"]}}

    def clean_up(self) -> dict[str, Any]:
        """Delete the crash dumps in the spool; it heals `disk_full`."""
        with self.changing:
            freed = self._empty_spool()
            if self.state["fault"] == "disk_full":
                self.state["fault"] = None
            self._save()
        self.log.write("INFO", f"cleaned up: {freed // 1024} KB of crash dumps deleted")
        return {"freed_bytes": freed}

    def prepare_restart(self) -> dict[str, Any]:
        """Note that the process is about to be replaced; it heals `memory_leak`."""
        with self.changing:
            if self.state["fault"] == "memory_leak":
                self.state["fault"] = None
            self._save()
        reading = self.meter.reading()
        self.log.write("WARN", f"restarting; {reading['in_flight']} orders in flight fail")
        return {"restarted": True, "in_flight_failed": reading["in_flight"], "memory_bytes": memory_bytes()}

    # Readings

    def health(self) -> dict[str, Any]:
        """Judge the last window, check by check."""
        reading = self.meter.reading()
        size, in_use, waiting = self.pool.reading()
        memory = memory_bytes()
        disk = self.spool_used / SPOOL_QUOTA
        exhausted = in_use >= size and (waiting > 0 or reading["pool_timeouts"] > 0)
        warm = reading["uptime"] >= self.meter.window and reading["requests"] >= 3
        checks = {
            "requests": "ok" if warm else "warming up",
            "errors": "ok" if reading["error_ratio"] <= 0.05 else f"{reading['error_ratio']:.0%} of requests fail",
            "latency": "ok" if reading["p95"] <= 0.35 else f"p95 is {reading['p95'] * 1000:.0f} ms",
            "pool": "ok" if not exhausted else f"{in_use} of {size} in use, {waiting} waiting",
            "memory": "ok" if memory <= 0.7 * MEMORY_LIMIT else f"{memory / MEMORY_LIMIT:.0%} of the limit",
            "disk": "ok" if disk <= 0.95 else f"{disk:.0%} of the quota used",
        }
        status = "healthy" if all(value == "ok" for value in checks.values()) else "degraded"
        if reading["requests"] >= 3 and reading["error_ratio"] > 0.9:
            status = "down"
        return {
            "service": NAME,
            "status": status,
            "version": self.state["version"],
            "uptime_seconds": round(reading["uptime"], 1),
            "window_seconds": self.meter.window,
            "checks": checks,
        }

    def metrics(self) -> str:
        """Write the measurements in Prometheus' text format."""
        reading = self.meter.reading()
        size, in_use, waiting = self.pool.reading()
        with self.meter.lock:
            totals, buckets, seconds = dict(self.meter.totals), dict(self.meter.buckets), self.meter.seconds
        lines = ["# TYPE http_requests_total counter"]
        lines += [f'http_requests_total{{status="{status}"}} {count}' for status, count in sorted(totals.items())]
        lines.append("# TYPE http_request_duration_seconds histogram")
        so_far = 0
        for edge in BUCKETS:
            so_far += buckets.get(edge, 0)
            lines.append(f'http_request_duration_seconds_bucket{{le="{edge}"}} {so_far}')
        so_far += buckets.get(float("inf"), 0)
        lines += [
            f'http_request_duration_seconds_bucket{{le="+Inf"}} {so_far}',
            f"http_request_duration_seconds_sum {seconds:.6f}",
            f"http_request_duration_seconds_count {so_far}",
        ]
        gauges: dict[str, float] = {
            "http_requests_in_flight": reading["in_flight"],
            "http_requests_per_second": round(reading["rate"], 2),
            "http_error_ratio": round(reading["error_ratio"], 4),
            'http_latency_seconds{quantile="0.5"}': round(reading["p50"], 4),
            'http_latency_seconds{quantile="0.95"}': round(reading["p95"], 4),
            'http_latency_seconds{quantile="0.99"}': round(reading["p99"], 4),
            "metrics_window_seconds": self.meter.window,
            "db_pool_size": size,
            "db_pool_in_use": in_use,
            "db_pool_waiting": waiting,
            "process_resident_memory_bytes": memory_bytes(),
            "process_memory_limit_bytes": MEMORY_LIMIT,
            "disk_used_ratio": round(self.spool_used / SPOOL_QUOTA, 4),
            "process_uptime_seconds": round(reading["uptime"], 2),
            f'build_info{{version="{self.state["version"]}"}}': 1,
        }
        typed: set[str] = set()
        for name, value in gauges.items():
            family = name.partition("{")[0]
            if family not in typed:
                typed.add(family)
                lines.append(f"# TYPE {family} gauge")
            lines.append(f"{name} {value}")
        return "\n".join(lines) + "\n"

    def deployments(self) -> dict[str, Any]:
        """Return the deployment history, newest first, with how long ago each was."""
        with self.changing:
            entries = list(self.state["deployments"])
        at = now()
        history = [
            {**entry, "seconds_ago": round((at - datetime.fromisoformat(entry["at"])).total_seconds())}
            for entry in reversed(entries)
        ]
        return {"service": NAME, "live": self.state["version"], "deployments": history}

    # The moving parts

    def customer(self, arrivals: queue.SimpleQueue[None]) -> None:
        """Send the orders that arrive, one after the other."""
        while True:
            arrivals.get()
            self.take_order()

    def customers(self, rate: float) -> None:
        """Let orders arrive `rate` times a second, whether or not the earlier ones are done."""
        arrivals: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(CUSTOMERS):
            threading.Thread(target=self.customer, args=(arrivals,), daemon=True).start()
        at = time.monotonic()
        while True:
            if arrivals.qsize() < CUSTOMERS:
                arrivals.put(None)
            at = max(at + 1 / rate, time.monotonic() - 1)
            time.sleep(max(0.0, at - time.monotonic()))

    def tick(self) -> None:
        """Let the fault that is set do its harm, a quarter of a second at a time."""
        fault = self.state["fault"]
        if fault == "pool_exhausted" and time.monotonic() >= self.batch_from:
            self._run_batch()
        if fault == "memory_leak":
            with self.changing:
                first = not self.cache
                grown = min(LEAK_MOST, max(LEAK_FIRST, (len(self.cache) + 1) * LEAK_STEP))
                while self.state["fault"] == fault and len(self.cache) * LEAK_STEP < grown:
                    self.cache.append(bytearray(b"\1") * LEAK_STEP)
            if first:
                self._warn_of_memory()

    def _run_batch(self) -> None:
        """Let the batch job queue for its connections like anybody else, and keep those that it gets."""
        with contextlib.suppress(PoolTimeout):
            while len(self.batch) < BATCH_CONNECTIONS:
                connection = self.pool.acquire(ACQUIRE_SECONDS)
                with self.changing:
                    if self.state["fault"] != "pool_exhausted":
                        self.pool.release(connection)
                        return
                    self.batch.append(connection)

    def watch(self, parent: int) -> None:
        """Tick, and leave when the process that started this one is gone."""
        spoken = time.monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            if parent and os.getppid() != parent:
                self.log.write("WARN", "the process that started this one is gone; leaving")
                forget(self.directory)
                os._exit(0)
            self.tick()
            if time.monotonic() - spoken > 5:
                spoken = time.monotonic()
                self._speak()

    def _speak(self) -> None:
        reading = self.meter.reading()
        self._warn_of_memory()
        failed, slow = f"{reading['error_ratio']:.0%} failed", f"p95 {reading['p95'] * 1000:.0f} ms"
        self.log.write("INFO", f"{reading['rate']:.1f} orders/s, {failed}, {slow}")

    def _warn_of_memory(self) -> None:
        memory = memory_bytes()
        if memory > 0.7 * MEMORY_LIMIT:
            self.log.write(
                "WARN",
                f"memory {memory / 2**20:.0f} MB of {MEMORY_LIMIT / 2**20:.0f} MB; "
                f"the cache holds {len(self.cache)} entries and evicts none",
            )


def memory_bytes() -> int:
    """Return the memory that this process really occupies."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def forget(directory: Path) -> None:
    """Remove `service.json`, if it is still ours."""
    path = directory / "service.json"
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()


def handler(checkout: Checkout, token: str, again: list[str]) -> type[BaseHTTPRequestHandler]:
    """Make the HTTP face of a service; `again` is the command line that replaces the process."""

    class Handler(BaseHTTPRequestHandler):
        server_version = "checkout"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health":
                self.answer(200, checkout.health())
            elif path == "/metrics":
                self.send(200, checkout.metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")
            elif path == "/deployments":
                self.answer(200, checkout.deployments())
            elif path == "/work":
                self.answer(*checkout.take_order())
            else:
                self.answer(404, {"error": f"nothing at {path}"})

        def do_POST(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/work":
                self.answer(*checkout.take_order())
                return
            if not path.startswith("/admin/"):
                self.answer(404, {"error": f"nothing at {path}"})
                return
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not self.client_address[0].startswith("127.") or not secrets.compare_digest(
                given.encode(), token.encode()
            ):
                self.answer(403, {"error": "needs the token of service.json, from this machine"})
                return
            try:
                length = min(int(self.headers.get("Content-Length") or 0), 65536)
                body = json.loads(self.rfile.read(length) or b"{}")
                if not isinstance(body, dict):
                    raise TypeError
            except (ValueError, TypeError):
                self.answer(400, {"error": "the body is not a JSON object"})
                return
            self.administer(path.removeprefix("/admin/"), body)

        def administer(self, verb: str, body: dict[str, Any]) -> None:
            try:
                if verb == "break":
                    changed = checkout.break_(str(body.get("fault")))
                elif verb == "heal":
                    changed = checkout.heal()
                elif verb == "resize_pool":
                    changed = checkout.resize_pool(body.get("size"))
                elif verb == "roll_back":
                    changed = checkout.roll_back()
                elif verb == "clean_up":
                    changed = checkout.clean_up()
                elif verb == "fault":
                    changed = {"fault": checkout.state["fault"]}
                elif verb == "restart":
                    self.answer(202, {"changed": checkout.prepare_restart()})
                    self.wfile.flush()
                    self.connection.close()
                    os.execv(again[0], again)  # noqa: S606 - our own module, no shell
                else:
                    self.answer(404, {"error": f"unknown change {verb!r}"})
                    return
            except Refused as refusal:
                self.answer(422, {"error": str(refusal)})
            else:
                self.answer(200, {"changed": changed})

        def answer(self, status: int, data: dict[str, Any]) -> None:
            self.send(status, json.dumps(data).encode(), "application/json")

        def send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep readings of the service out of its own log."""

    return Handler


class Server(ThreadingHTTPServer):
    """A threading server that does not take part in its clients' troubles."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a reader that went away is no fault of the service."""


def main(argv: list[str] | None = None) -> None:
    """Serve until the parent is gone or SIGTERM comes."""
    parser = argparse.ArgumentParser(description="The sick demo service.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0, help="leave when this process is no longer the parent")
    parser.add_argument("--rate", type=float, default=14.0, help="orders a second")
    parser.add_argument("--window", type=float, default=2.0, help="seconds that a reading looks back")
    parser.add_argument("--first-fault", choices=(*FAULTS, ""), default="")
    options = parser.parse_args(argv)
    directory: Path = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    # SQLite and sixteen threads: without this, glibc keeps an arena per thread and the process looks leaky.
    threading.stack_size(256 * 1024)

    address = directory / "service.json"
    token = secrets.token_urlsafe(24)
    replaced = False
    with contextlib.suppress(OSError, ValueError, KeyError):
        before = json.loads(address.read_text())
        if before["pid"] == os.getpid():
            # This process replaced itself: who had its address still has it.
            token, replaced = before["token"], True

    checkout = Checkout(directory, window=options.window, first_fault=options.first_fault, replaced=replaced)
    again = [sys.executable, "-m", "sessions_app.demo.service", "--directory", str(directory)]
    again += ["--parent", str(options.parent), "--rate", str(options.rate), "--window", str(options.window)]
    server = Server(("127.0.0.1", options.port), handler(checkout, token, again))
    port = server.server_address[1]
    again += ["--port", str(port)]

    def leave(signum: int, frame: FrameType | None) -> None:
        forget(directory)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    threading.Thread(target=checkout.watch, args=(options.parent,), daemon=True).start()
    threading.Thread(target=checkout.customers, args=(options.rate,), daemon=True).start()

    def announce() -> None:
        # A reading means something once a window is full, and only then is the address given out.
        time.sleep(options.window + TICK_SECONDS)
        service = {
            "name": NAME,
            "url": f"http://127.0.0.1:{port}",
            "port": port,
            "pid": os.getpid(),
            "token": token,
        }
        write_atomically(address, service, mode=0o600)

    threading.Thread(target=announce, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
