"""Run a service under load, let a fault happen, and wait until all has settled."""

import contextlib
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.delivery.support.processes import free_port
from tests.delivery.support.proxy import Proxy
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import OwnServer

from . import pgbouncer
from .books import Books, PostgresqlServer, SqliteBooks, started, unfinished
from .faults import Fault
from .load import Load
from .order import Order
from .service import Service

WARM_UP = 30
LONG_SECONDS = 4.0
LONG_TASKS = 2
"""As many as the smallest worker runs at a time; an interrupted one must not queue."""
GATHER_SECONDS = 5.0
"""How long the others may take to start once one of them runs."""
ARMED_SECONDS = 120.0
"""How long it may take until something dies at an armed point."""


@dataclass
class Servers:
    """The servers that all runs share."""

    folder: Path
    scratch: Path
    reaper: Reaper
    postgresql: OwnServer | None
    databases: PostgresqlServer | None
    broker: OwnServer | None


class NotRunAgainError(Exception):
    """What a fault waited for did not happen: the rest of it would show no more."""


class Run:
    """A running service and what a fault can do to it."""

    has_ledger = True
    path = "/drill"
    """Where its API takes tasks."""

    def __init__(
        self,
        order: Order,
        servers: Servers,
        say: Callable[[str], None],
        *,
        fault: Fault,
        overrides: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.order = order
        self.servers = servers
        self.say = say
        self.random = random.Random(order.seed)  # noqa: S311 - a drill, no secret
        self.broken: list[str] = []
        self.notes: list[str] = []
        self.moments: list[float] = []
        self.windows: list[tuple[float, float]] = []
        self.folder = servers.scratch / f"run-{secrets.token_hex(4)}"
        self.folder.mkdir()

        self.books = self._open_books()
        self.proxy = self._start_proxy() if fault.through_proxy else None
        self.database_proxy: Proxy | None = None
        self.pgbouncer: OwnServer | None = None
        self.database_url = self._reach_database(fault)
        port = free_port()
        self.service = Service(
            *(servers.folder, port, self._settings(port), servers.reaper),
            overrides or {},
        )
        self.traffic = Load(port, self.path, order.seed)

    def _open_books(self) -> Books:
        if self.servers.databases is None:
            return SqliteBooks(self.folder / "app.db")
        return self.servers.databases.make()

    def _start_proxy(self) -> Proxy | None:
        if self.servers.broker is None:
            return None
        return Proxy("127.0.0.1", _port_of(self.servers.broker.url))

    def _reach_database(self, fault: Fault) -> str:
        """Put before the database what the fault asks for, and return its URL there."""
        url = self.books.url
        if not fault.before_database or self.servers.databases is None:
            return url

        if fault.before_database == "proxy":
            self.database_proxy = Proxy("127.0.0.1", _port_of(url))
            return url.replace(str(_port_of(url)), str(self.database_proxy.port))
        self.pgbouncer = pgbouncer.start(
            url, fault.before_database, self.folder, self.servers.reaper
        )
        return self.pgbouncer.url

    def _settings(self, port: int) -> dict[str, str]:
        """Return what the processes of the service are started with."""
        settings = {
            "DATABASE_URL": self.database_url,
            "OPERATOR_TOKEN": secrets.token_urlsafe(),
            "LEASE_SECONDS": str(self.order.lease),
            "PORT": str(port),
            "DRILL_FOLDER": str(self.folder),
        }
        if self.order.reference is not None:
            settings["REFERENCE_SETTINGS"] = self.order.reference

        if self.servers.broker is not None:
            url = self.servers.broker.url
            if self.proxy is not None:
                url = url.replace(str(_port_of(url)), str(self.proxy.port))
            settings["BROKER_URL"] = url
        return settings

    @property
    def broker(self) -> OwnServer:
        """The broker, in front of which there may be a proxy."""
        assert self.servers.broker is not None
        return self.servers.broker

    def warm_up(self) -> bool:
        """Wait until tasks have gone the whole way; return whether they have.

        No request that is measured is the first of its kind then.
        """
        self.say("starting")
        self.service.wait_until_ready()
        for _ in range(WARM_UP):
            self.traffic.send()

        is_warm = self.settle("warming up")
        self.expect(is_warm, "no task has gone the whole way before the fault")
        self.traffic.forget_times()
        return is_warm

    def expect(self, kept: object, otherwise: str) -> None:
        """Note a broken promise."""
        if not kept:
            self.broken.append(otherwise)

    @contextlib.contextmanager
    def load(self, seconds: float = 0, tasks: int | None = None) -> Iterator[None]:
        """Send the load meanwhile, at the rate asked for, or slower for `seconds`."""
        tasks = tasks or self.order.tasks or 1000
        self.traffic.begin(tasks, max(seconds, tasks / self.order.rate))
        try:
            yield
        finally:
            self.traffic.wait()

    def wait_until_sent(self, share: float) -> None:
        """Wait until this share of the load is accepted."""
        self.say(f"sending until {share:.0%}")
        while self.traffic.sent < share and self.traffic.is_sending:
            time.sleep(0.05)

    @contextlib.contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Note when a fault began and ended."""
        self.say(what)
        begun = time.time()
        self.moments.append(begun)
        try:
            yield
        finally:
            self.windows.append((begun, time.time()))

    def start_long_tasks(
        self, number: int = LONG_TASKS, seconds: float = LONG_SECONDS
    ) -> dict[UUID, int]:
        """Enqueue long tasks; return those that run, with their processes.

        That is once all of them do, or some do and the others are late.
        """
        self.say("starting long tasks")
        ids = [self.traffic.send(seconds=seconds) for _ in range(number)]

        deadline = time.monotonic() + 120
        running: dict[UUID, int] = {}
        while len(running) < number and time.monotonic() < deadline:
            starts = started(self.books)
            now = {each: starts[each][-1][1] for each in ids if each in starts}
            if now and not running:
                deadline = time.monotonic() + min(GATHER_SECONDS, seconds / 2)
            running = now
            time.sleep(0.05)

        self.expect(running, "no long task started within 120 s")
        return running

    def wait_until_more_start(self, number: int) -> bool:
        """Wait until so many more tasks have started; return whether they have."""
        query = "SELECT count(*) FROM drill_starts"
        [(before,)] = self.rows(query)
        # Of those that never started, some may be lost.
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.rows(query)[0][0] >= before + number:
                return True
            if not (
                self.traffic.is_sending
                or set(self.traffic.answered) - started(self.books).keys()
            ):
                return False

            time.sleep(0.005)
        return False

    def wait_until_started(self, task: UUID, within: float = 60) -> bool:
        """Wait, not for ever, until this task has started; return whether it has."""
        deadline = time.monotonic() + within
        while (
            not (has_started := task in started(self.books))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        return has_started

    def interrupt(
        self,
        what: str,
        action: Callable[[dict[UUID, int]], object],
        seconds: float = LONG_SECONDS,
    ) -> None:
        """Do something while long tasks run; wait until these run again or ended."""
        running = self.start_long_tasks(seconds=seconds)
        with self.fault(what):
            action(running)
            self.wait_until_running_again()

    def wait_until_running_again(self) -> None:
        """Wait until each task that runs now was started again or has ended.

        Raises NotRunAgainError if that takes far longer than what is promised.
        """
        self.say("waiting for the interrupted tasks")
        query = "SELECT id, attempts FROM tasks WHERE status = 'running'"
        interrupted = {
            UUID(str(row[0])): row[1] for row in self._rows_when_possible(query)
        }

        deadline = time.monotonic() + 3 * self.order.lease + 20
        while interrupted:
            if time.monotonic() > deadline:
                raise NotRunAgainError

            query = "SELECT id FROM tasks WHERE finished_at IS NULL"
            unended = {UUID(str(row[0])) for row in self._rows_when_possible(query)}
            starts = started(self.books)
            interrupted = {
                task: attempt
                for task, attempt in interrupted.items()
                if task in unended and starts.get(task, [(0,)])[-1][0] <= attempt
            }

            time.sleep(0.1)

    def _rows_when_possible(self, query: str) -> Sequence[Any]:
        """Run a query; where the database is away or cuts the connection, try again."""
        for _ in range(100):
            with contextlib.suppress(Exception):
                return self.books.rows(query)
            time.sleep(0.1)
        return self.books.rows(query)

    def arm(self, point: str) -> None:
        """Let a process die at a point of its code, once; wait until it did."""
        armed = self.folder / point
        armed.touch()

        deadline = time.monotonic() + ARMED_SECONDS
        while armed.exists() and time.monotonic() < deadline:
            if not self.traffic.is_sending:
                self.traffic.send()
            time.sleep(0.02)

        self.expect(
            not armed.exists(),
            f"nothing came to the point {point} within {ARMED_SECONDS:.0f} s",
        )

    def settle(self, why: str = "settling") -> bool:
        """Wait until every task has ended, or none does; return whether all have."""
        patience = 3 * self.order.lease + 60
        last, since = -1, time.monotonic()

        while (number := unfinished(self.books)) or not self._has_ledger():
            self.say(f"{why}: {number} left")
            if number != last:
                last, since = number, time.monotonic()
            elif time.monotonic() - since > patience:
                return False
            time.sleep(0.2)

        return True

    def close(self) -> None:
        """Stop the processes."""
        self.service.stop()
        self.books.close()
        for proxy in (self.proxy, self.database_proxy):
            if proxy is not None:
                proxy.refuse()
        if self.pgbouncer is not None:
            self.pgbouncer.stop()

    def rows(self, statement: str) -> Sequence[Any]:
        """Run a query in the run's database."""
        return self.books.rows(statement)

    def _has_ledger(self) -> bool:
        return bool(self.books.rows("SELECT count(*) FROM tasks"))


def _port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])
