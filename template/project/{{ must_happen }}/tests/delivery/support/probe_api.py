"""An API with one more route, which enqueues probes; the tests run it instead of `app.main`.

The tests copy this module into the project's `app/`.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import text

from app.delivery.definitions import must_happen_tasks
from app.dependencies import Session, Tasks
from app.main import app


class Options(BaseModel):
    """Options of one enqueue."""

    key: str | None = None
    delay: timedelta | None = None
    queue: str | None = None
    priority: int | None = None


class Probe(BaseModel):
    """A probe task to enqueue."""

    name: str
    arguments: dict[str, Any]
    options: Options


@app.post("/probes", status_code=202)
async def enqueue_probe(
    probe: Probe, session: Session, tasks: Tasks
) -> dict[str, UUID]:
    """Write something of the request's own, and enqueue the task in the same transaction.

    A key that was used before makes the commit fail: the table refuses a second request
    then.
    """
    task = must_happen_tasks()[probe.name].using(
        **probe.options.model_dump(exclude_none=True)
    )
    handle = await tasks.enqueue(task, **probe.arguments)
    await session.execute(
        text("INSERT INTO probe_requests (task_id) VALUES (:id)"), {"id": handle.id}
    )
    return {"id": handle.id}
