"""Tasks that show how they were run, and the tables they write to.

The tests run them in this process, and copy this module into `app/tasks/` of a copied
project for those that run as processes. The service's own tasks change and go.
"""

import asyncio
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import ForeignKey, MetaData, event, func, insert, make_url
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateTable

from app.database import database_engine
from app.delivery import TaskContext, must_happen, nice_to_have

IS_SQLITE = database_engine.dialect.name == "sqlite"

notes: list[str] = []
"""What nice-to-have probes wrote."""


class ProbeBase(DeclarativeBase):
    """The base of tables that no migration knows."""

    metadata = MetaData()


class Start(ProbeBase):
    """An attempt that has begun; nothing forbids a second one of its number."""

    __tablename__ = "probe_starts"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[UUID]
    attempt: Mapped[int]
    pid: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class Effect(ProbeBase):
    """What may exist only once for each task; nothing forbids a second one."""

    __tablename__ = "probe_effects"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[UUID]
    attempt: Mapped[int]


class Request(ProbeBase):
    """What a request wrote beside the task that it enqueued."""

    __tablename__ = "probe_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[UUID]


class Promise(ProbeBase):
    """What makes a commit fail, and nothing before it, if there is no second one."""

    __tablename__ = "probe_promises"

    id: Mapped[int] = mapped_column(primary_key=True)
    needs: Mapped[int] = mapped_column(
        ForeignKey("probe_promises.id", deferrable=True, initially="DEFERRED")
    )


def create_statements(database_url: str) -> list[str]:
    """Return what creates the tables in a database of this kind."""
    dialect = make_url(database_url).get_dialect()()
    return [
        str(CreateTable(table).compile(dialect=dialect))
        for table in ProbeBase.metadata.sorted_tables
    ]


async def have_effect(task: TaskContext) -> None:
    """Write what may exist only once, together with the success of the task."""
    await task.session.execute(
        insert(Effect).values(task_id=task.id, attempt=task.attempt)
    )


async def break_promise(session: AsyncSession) -> None:
    """Write something that makes the commit fail, and nothing before it."""
    await session.execute(insert(Promise).values(id=1, needs=2))


async def log_start(task: TaskContext) -> None:
    """Commit at once, so that the start stays visible when the attempt is killed."""
    async with database_engine.begin() as connection:
        await connection.execute(
            insert(Start).values(task_id=task.id, attempt=task.attempt, pid=os.getpid())
        )


async def _wait(seconds: float, until: Path | None) -> None:
    await asyncio.sleep(seconds)
    while until and not until.exists():  # noqa: ASYNC110, ASYNC240 -- no event
        await asyncio.sleep(0.01)


async def _work(
    task: TaskContext, seconds: float = 0, until: Path | None = None
) -> str:
    if IS_SQLITE:
        # Its one connection must not be kept from others meanwhile.
        await _wait(seconds, until)
        await have_effect(task)
    else:
        await have_effect(task)
        # So that a start that is seen has an effect to lose or to repeat.
        await log_start(task)
        await _wait(seconds, until)
    return f"attempt {task.attempt}"


@must_happen(max_attempts=20, retry_delay=0.2)
async def probe(
    task: TaskContext, seconds: float = 0, until: Path | None = None
) -> str:
    """Have an effect, and take some time, or as long as a file does not exist."""
    return await _work(task, seconds, until)


@must_happen(max_attempts=1)
async def probe_once(task: TaskContext, until: Path) -> str:
    """Have an effect as soon as a file exists; a failure would be the end."""
    return await _work(task, until=until)


@must_happen(max_attempts=1)
def probe_blocking(started: Path) -> None:
    """Say that it has started, and block a thread for long, whatever is said to it."""
    started.touch()
    time.sleep(600)


@must_happen(queue="probes", priority=3)
async def probe_elsewhere(task: TaskContext) -> str:
    """Have an effect by way of a named queue."""
    return await _work(task)


@must_happen(max_attempts=3, retry_delay=0.2)
async def probe_failing(task: TaskContext, failures: int) -> str:
    """Have an effect, and fail so many times."""
    await _work(task)
    if task.attempt <= failures:
        raise RuntimeError(f"failure {task.attempt}")
    return f"attempt {task.attempt}"


@must_happen(queue="probes", priority=3, max_attempts=1)
async def probe_hopeless(task: TaskContext, secret: str) -> None:
    """Have an effect and fail, without a second attempt."""
    await _work(task)
    raise RuntimeError(f"refused {secret}")


@must_happen(max_attempts=2, retry_delay=0.2)
async def probe_poison(task: TaskContext) -> None:
    """Kill the process that runs this, at every attempt."""
    await log_start(task)
    os.kill(os.getpid(), signal.SIGKILL)


@must_happen(max_attempts=1)
def probe_ending_child() -> None:
    """Start a process, and end it before its time."""
    if (child := os.fork()) == 0:
        time.sleep(600)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)


@must_happen(max_attempts=2, retry_delay=0.2)
async def probe_ending_loop(task: TaskContext) -> None:
    """End what runs the tasks of the process once, past whatever guards them."""
    if task.attempt == 1:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(600)


@must_happen(max_attempts=20, retry_delay=0.2)
async def probe_freezing(task: TaskContext) -> None:
    """Freeze the process once, when the task has ended but is not committed."""
    await log_start(task)
    await have_effect(task)
    if task.attempt == 1:
        session = task.session.sync_session
        event.listen(
            session, "before_commit", lambda _: signal.raise_signal(signal.SIGSTOP)
        )


@must_happen(max_attempts=2, retry_delay=0.2)
async def probe_parent(
    task: TaskContext, children: int, failures: int = 0
) -> list[UUID]:
    """Enqueue further tasks, which exist if and only if this one succeeds."""
    recorded = [await task.enqueue(probe) for _ in range(children)]
    if task.attempt <= failures:
        raise RuntimeError("no child of this attempt may exist")
    return [child.id for child in recorded]


@nice_to_have
def probe_note(note: str) -> None:
    """Leave a trace in this process."""
    notes.append(note)
