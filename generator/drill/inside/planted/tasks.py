"""Add the drill's own tasks to the project's, in `app/tasks/`."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.database import database_engine
from app.delivery import TaskContext, ledger, must_happen
from app.delivery.execution import execute
from app.delivery.statements import BatchStatement
from app.drill_points import die_if_armed

IS_SQLITE = database_engine.dialect.name == "sqlite"
NOW = (
    "(julianday('now') - 2440587.5) * 86400.0"
    if IS_SQLITE
    else "extract(epoch FROM clock_timestamp())"
)


async def _log_start(task: TaskContext) -> None:
    """Commit at once, so that the start stays visible when the attempt is killed."""
    values = {
        "id": str(task.id),
        "attempt": task.attempt,
        "pid": os.getpid(),
        "clock": time.time(),
    }
    statement = (
        "INSERT INTO drill_starts (task_id, attempt, pid, clock, at)"
        f" VALUES (:id, :attempt, :pid, :clock, {NOW})"
    )

    async with database_engine.begin() as connection:
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
async def drill_poison(
    task: TaskContext, seconds: float = 0, failures: int = 0
) -> None:
    """Kill the process that runs this, at every attempt."""
    await _log_start(task)
    os.kill(os.getpid(), signal.SIGKILL)


_claim, _run_all = ledger.claim, BatchStatement.run_all
_repeat = int(os.environ.get("DRILL_REPEAT", "1"))
_repeated: set[asyncio.Task[None]] = set()


async def _claim_or_die(task_ids: Iterable[UUID]) -> list[ledger.Claim]:
    claims = await _claim(task_ids)
    if claims:
        die_if_armed("taken")
    for claim in claims * (_repeat - 1):
        _repeated.add(asyncio.create_task(execute(claim.id)))
    return claims


async def _take_or_die(statement: BatchStatement, batch: list[Any]) -> list[Any]:
    rows = await _run_all(statement, batch)
    if any(rows):
        die_if_armed("taken")
    return [*rows] * _repeat


if os.environ.get("DRILL_ROLE") == "relay":
    # The relay itself runs as another module; it sends nothing else in batches.
    BatchStatement.run_all = _take_or_die  # type: ignore[assignment, method-assign]
else:
    ledger.claim = _claim_or_die
