"""Add routes to the service that enqueue probes.

The tests use them in this process, and copy this module into `app/` of a copied project
for those that run as processes.
"""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, HTTPException
from pydantic import BaseModel
from sqlalchemy import insert

from app.delivery.definitions import must_happen_tasks
from app.dependencies import Session, Tasks
from app.main import app
from tests.delivery.support.probe_tasks import (
    Request,
    break_promise,
    probe,
    probe_note,
)


class Options(BaseModel):
    """Options of one enqueue."""

    key: str | None = None
    delay: timedelta | None = None
    queue: str | None = None
    priority: int | None = None


class Probe(BaseModel):
    """A probe task to enqueue."""

    name: str = "probe"
    arguments: dict[str, Any] = {}
    options: Options = Options()


class Enqueued(BaseModel):
    """A task, and whether it is new."""

    id: UUID
    created: bool


@app.post("/probes", status_code=202)
async def enqueue_probe(wanted: Probe, session: Session, tasks: Tasks) -> Enqueued:
    """Write something of the request's own, and enqueue a task of each kind."""
    options = wanted.options.model_dump(exclude_none=True)
    task = must_happen_tasks()[wanted.name].using(**options)
    recorded = await tasks.enqueue(task, **wanted.arguments)

    await session.execute(insert(Request).values(task_id=recorded.id))
    await tasks.enqueue(probe_note, "after the response")
    return Enqueued(id=recorded.id, created=recorded.created)


async def enqueue_in_a_dependency(tasks: Tasks) -> UUID:
    """Enqueue from a dependency of a route."""
    return (await tasks.enqueue(probe)).id


@app.post("/probes/dependency", status_code=202)
async def enqueue_twice(
    tasks: Tasks, first: Annotated[UUID, Depends(enqueue_in_a_dependency)]
) -> list[UUID]:
    """Enqueue after a dependency has."""
    return [first, (await tasks.enqueue(probe)).id]


@app.post("/probes/refused", status_code=202)
async def enqueue_and_refuse(session: Session, tasks: Tasks) -> None:
    """Change one's mind after everything was enqueued."""
    await enqueue_probe(Probe(), session, tasks)
    raise HTTPException(418)


@app.post("/probes/uncommittable", status_code=202)
async def enqueue_and_fail_to_commit(session: Session, tasks: Tasks) -> None:
    """Succeed, but for the commit."""
    await enqueue_probe(Probe(), session, tasks)
    await break_promise(session)
