"""Run must-happen tasks in a test, and look at what was enqueued.

In an `async def` test, call the functions. In a test that uses `client`, the fixture
`tasks` does the same in the event loop of the client. Nothing runs by itself, and
nothing waits: a task is run when the test says so, if it is due. Commit and close a
session of your own before: SQLite has one connection at a time.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.database import session_factory
from app.delivery import MustHappenTask, execution, ledger
from app.delivery.due import DueTasks
from app.delivery.table import Status, task_table

P = ParamSpec("P")
Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Enqueued(Generic[P]):
    """A task in the ledger."""

    task: MustHappenTask[P]
    id: UUID
    arguments: dict[str, Any]
    """By name, as the task gets them: a UUID is a UUID; defaults are filled in."""
    queue: str
    priority: int
    key: str | None
    status: Status
    attempts: int
    error: str | None
    """Of the last attempt that failed."""
    result: str | None
    """What the task returned, as JSON."""
    created_at: datetime
    wake_at: datetime | None
    """When it is due, or its lease ends; none once it has ended."""

    @property
    def delay(self) -> timedelta:
        """How much later than its enqueue it is due; zero once it has ended."""
        return (self.wake_at or self.created_at) - self.created_at

    def assert_called_with(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Assert that it was enqueued with these arguments, by position or by name."""
        expected = self.task.load_arguments(self.task.dump_arguments(*args, **kwargs))
        assert self.arguments == expected, (
            f"{self.task.name} was enqueued with {self.arguments}, not with {expected}"
        )


async def enqueued(task: MustHappenTask[P]) -> list[Enqueued[P]]:
    """Return what was enqueued of a task and committed, the oldest first."""
    statement = select(task_table).where(task_table.c.name == task.name)
    async with session_factory() as session:
        rows = (await session.execute(statement.order_by(task_table.c.id))).all()

    return [
        Enqueued(
            task=task,
            id=row.id,
            arguments=task.load_arguments(row.arguments),
            queue=row.queue,
            priority=row.priority,
            key=row.key,
            status=Status(row.status),
            attempts=row.attempts,
            error=row.error,
            result=row.result,
            created_at=row.created_at,
            wake_at=row.wake_at,
        )
        for row in rows
    ]


async def run_due(*, raising: bool = True) -> int:
    """Run what is due, and what becomes due by that, until nothing is.

    They run one after the other. Delayed tasks and retries are not due before their
    time, see `let_pass`. Returns the number of attempts.

    Raises what a task raised, the exception itself; tasks after it have not run. With
    `raising=False` failures only stay in the ledger.
    """
    attempts = 0
    due = DueTasks()

    with _failures() as failures:
        while found := await due.look(1):
            for claim in await ledger.claim(found):
                attempts += 1
                await execution.run_attempt(claim)
                if raising and failures:
                    raise failures[0]
    return attempts


async def let_pass(time: timedelta) -> None:
    """Make everything that waits due so much sooner, as if the time had passed.

    A retry waits up to a quarter longer than `retry_delay` says.
    """
    moments = select(task_table.c.id, task_table.c.wake_at)
    async with session_factory.begin() as session:
        waiting = await session.execute(
            moments.where(task_table.c.wake_at.is_not(None))
        )

        for task_id, wake_at in waiting.all():
            await session.execute(
                update(task_table)
                .where(task_table.c.id == task_id)
                .values(wake_at=wake_at - time)
            )


class RecordedTasks:
    """The same for a test that is not `async`, in the event loop of its client."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def enqueued(self, task: MustHappenTask[P]) -> list[Enqueued[P]]:
        """Return what was enqueued of a task and committed, the oldest first."""
        return self._call(partial(enqueued, task))

    def run_due(self, *, raising: bool = True) -> int:
        """Run what is due, and what becomes due by that, until nothing is."""
        return self._call(partial(run_due, raising=raising))

    def let_pass(self, time: timedelta) -> None:
        """Make everything that waits due so much sooner, as if the time had passed."""
        self._call(partial(let_pass, time))

    def _call(self, function: Callable[[], Awaitable[Returned]]) -> Returned:
        assert self._client.portal is not None
        return self._client.portal.call(function)


class _Failures(logging.Handler):
    """Gathers the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.raised: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.raised.append(record.exc_info[1])


@contextlib.contextmanager
def _failures() -> Iterator[list[BaseException]]:
    """Yield what attempts raise: it is logged, and its text alone is in the ledger."""
    handler = _Failures()
    execution.logger.addHandler(handler)
    try:
        yield handler.raised
    finally:
        execution.logger.removeHandler(handler)
