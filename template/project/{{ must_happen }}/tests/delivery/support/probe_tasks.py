"""Tasks that show how they were run; the tests copy this module into the project's `app/tasks/`."""

import asyncio
import os
import signal
from uuid import UUID

from sqlalchemy import event, text

from app.database import database_engine
from app.delivery import TaskContext, must_happen


async def _log_start(task: TaskContext) -> None:
    """Commit at once, so that the start stays visible when the attempt is killed."""
    async with database_engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO probe_starts (task_id, attempt, pid) VALUES (:id, :attempt, :pid)"
            ),
            {"id": task.id, "attempt": task.attempt, "pid": os.getpid()},
        )


async def probe_effect(task: TaskContext) -> None:
    """Write what may exist only once, together with the success of the task."""
    await task.session.execute(
        text("INSERT INTO probe_effects (task_id, attempt) VALUES (:id, :attempt)"),
        {"id": task.id, "attempt": task.attempt},
    )


async def _work(task: TaskContext, seconds: float) -> str:
    await probe_effect(task)
    # So that a start that is seen has an effect to lose or to repeat.
    await _log_start(task)
    await asyncio.sleep(seconds)
    return f"attempt {task.attempt}"


@must_happen(max_attempts=20, retry_delay=0.2)
async def probe(task: TaskContext, seconds: float = 0) -> str:
    """Have an effect, and take some time."""
    return await _work(task, seconds)


@must_happen(queue="probes", priority=3)
async def probe_elsewhere(task: TaskContext, seconds: float = 0) -> str:
    """Do the same by way of a named queue."""
    return await _work(task, seconds)


@must_happen(max_attempts=3, retry_delay=0.2)
async def probe_failing(task: TaskContext, failures: int) -> str:
    """Have an effect, and fail so many times."""
    await _work(task, 0)
    if task.attempt <= failures:
        raise RuntimeError(f"failure {task.attempt}")
    return f"attempt {task.attempt}"


@must_happen(max_attempts=2, retry_delay=0.2)
async def probe_poison(task: TaskContext) -> None:
    """Kill the process that runs this, at every attempt."""
    await _log_start(task)
    os.kill(os.getpid(), signal.SIGKILL)


@must_happen(max_attempts=20, retry_delay=0.2)
async def probe_freezing(task: TaskContext) -> None:
    """Freeze the process that runs this, once, when the task has ended but is not committed."""
    await _log_start(task)
    await probe_effect(task)
    if task.attempt == 1:
        session = task.session.sync_session
        event.listen(
            session, "before_commit", lambda _: signal.raise_signal(signal.SIGSTOP)
        )


@must_happen(max_attempts=20, retry_delay=0.2)
async def probe_parent(task: TaskContext, children: int) -> list[UUID]:
    """Enqueue further tasks, which exist if and only if this one succeeds."""
    await _log_start(task)
    handles = [await task.enqueue(probe) for _ in range(children)]
    if task.attempt == 1:
        raise RuntimeError("no child of this attempt may exist")
    return [handle.id for handle in handles]
