"""The service with tasks and routes that show what became of them.

The tests rest on these rather than on the service's own, which change and go.
"""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import Depends, HTTPException
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.delivery import TaskContext, must_happen, nice_to_have
from app.dependencies import Session, Tasks
from app.main import app

TABLES = """
CREATE TABLE probe_effects (task_id TEXT NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE probe_requests (task_id TEXT NOT NULL);
CREATE TABLE probe_promises (
    id INTEGER PRIMARY KEY,
    needs INTEGER NOT NULL REFERENCES probe_promises (id) DEFERRABLE INITIALLY DEFERRED
);
"""

service = app

notes: list[str] = []
"""What nice-to-have probes wrote."""


async def have_effect(task: TaskContext) -> None:
    """Write something that must be committed exactly once."""
    await task.session.execute(
        text("INSERT INTO probe_effects VALUES (:id, :attempt)"),
        {"id": str(task.id), "attempt": task.attempt},
    )


async def break_promise(session: AsyncSession) -> None:
    """Write something that makes the commit fail, and nothing before it."""
    await session.execute(text("INSERT INTO probe_promises (id, needs) VALUES (1, 2)"))


@must_happen(retry_delay=0)
async def probe(task: TaskContext, seconds: float = 0) -> str:
    """Have an effect, after some time."""
    await asyncio.sleep(seconds)
    await have_effect(task)
    return f"attempt {task.attempt}"


@must_happen(queue="probes", priority=3, max_attempts=1)
async def probe_failing(task: TaskContext, secret: str) -> None:
    """Have an effect and fail."""
    await have_effect(task)
    raise RuntimeError("on purpose")


@must_happen(max_attempts=1)
async def probe_parent(task: TaskContext, fails: bool) -> list[UUID]:
    """Enqueue further tasks, and fail after that if told to."""
    children = [await task.enqueue(probe) for _ in range(3)]
    if fails:
        raise RuntimeError("no child may exist")
    return [child.id for child in children]


@nice_to_have
def probe_note(note: str) -> None:
    """Leave a trace in this process."""
    notes.append(note)


async def enqueue_in_a_dependency(tasks: Tasks) -> UUID:
    """Enqueue from a dependency of a route."""
    return (await tasks.enqueue(probe)).id


@service.post("/probes", status_code=202)
async def enqueue_probe(
    session: Session, tasks: Tasks, seconds: float = 0, key: str | None = None
) -> dict[str, UUID | bool]:
    """Write something of the request's own, and enqueue a task of each kind."""
    recorded = await tasks.enqueue(probe.using(key=key), seconds)
    await tasks.enqueue(probe_note, "after the response")
    await session.execute(
        text("INSERT INTO probe_requests VALUES (:id)"), {"id": str(recorded.id)}
    )
    return {"id": recorded.id, "created": recorded.created}


@service.post("/probes/dependency", status_code=202)
async def enqueue_twice(
    tasks: Tasks, first: Annotated[UUID, Depends(enqueue_in_a_dependency)]
) -> list[UUID]:
    """Enqueue after a dependency has."""
    return [first, (await tasks.enqueue(probe)).id]


@service.post("/probes/family", status_code=202)
async def enqueue_parent(tasks: Tasks, fails: bool) -> dict[str, UUID]:
    """Enqueue a task that enqueues tasks."""
    return {"id": (await tasks.enqueue(probe_parent, fails)).id}


@service.post("/probes/refused", status_code=202)
async def enqueue_and_refuse(session: Session, tasks: Tasks) -> None:
    """Change one's mind after everything was enqueued."""
    await enqueue_probe(session, tasks)
    raise HTTPException(418)


@service.post("/probes/uncommittable", status_code=202)
async def enqueue_and_fail_to_commit(session: Session, tasks: Tasks) -> None:
    """Succeed, but for the commit."""
    await enqueue_probe(session, tasks)
    await break_promise(session)
