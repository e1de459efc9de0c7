"""The drill's own tasks; copied into the copy's `app/tasks/`."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import text

from app.database import engine
from app.delivery import TaskContext, ledger, must_happen
from app.drill_points import die_if_armed

IS_SQLITE = engine.dialect.name == "sqlite"
NOW = (
    "(julianday('now') - 2440587.5) * 86400.0"
    if IS_SQLITE
    else "extract(epoch FROM clock_timestamp())"
)


async def _log_start(task: TaskContext) -> None:
    """Commit at once, so that the start stays visible when the attempt is killed."""
    values = {"id": str(task.id), "attempt": task.attempt, "pid": os.getpid(), "clock": time.time()}
    statement = (
        "INSERT INTO drill_starts (task_id, attempt, pid, clock, at)"
        f" VALUES (:id, :attempt, :pid, :clock, {NOW})"
    )
    async with engine.begin() as connection:
        await connection.execute(text(statement), values)


async def _have_an_effect(task: TaskContext) -> None:
    """Write what may exist only once, together with the success of the task."""
    await task.session.execute(
        text("INSERT INTO drill_effects (task_id, attempt) VALUES (:id, :attempt)"),
        {"id": str(task.id), "attempt": task.attempt},
    )


@must_happen(max_attempts=20, retry_delay=0.5)
async def drill(task: TaskContext, seconds: float = 0, failures: int = 0) -> None:
    """Have an effect, take some time, and fail so many times."""
    if not IS_SQLITE:  # There, it would lock all others out meanwhile.
        await _have_an_effect(task)
    await _log_start(task)
    await asyncio.sleep(seconds)
    if task.attempt <= failures:
        raise RuntimeError(f"failure {task.attempt}")
    if IS_SQLITE:
        await _have_an_effect(task)


@must_happen(max_attempts=3, retry_delay=0.5)
async def drill_poison(task: TaskContext, seconds: float = 0, failures: int = 0) -> None:
    """Kill the process that runs this, at every attempt."""
    await _log_start(task)
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(
    take: Callable[[int, float], Awaitable[list[ledger.Message]]],
) -> Callable[[int, float], Awaitable[list[ledger.Message]]]:
    repeat = int(os.environ.get("DRILL_REPEAT", "1"))

    async def take_due(limit: int, seconds: float) -> list[ledger.Message]:
        messages = await take(limit, seconds)
        if messages:
            die_if_armed("taken")
        return messages * repeat

    return take_due


ledger.take_due = _wrap(ledger.take_due)  # type: ignore[assignment]
