"""Add a route that enqueues the drill's tasks to the project's API, in `app/`."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import event, text

from app.dependencies import Session, Tasks
from app.drill_points import die_if_armed
from app.main import app
from app.tasks.drill import drill, drill_poison


class Work(BaseModel):
    """A task to enqueue."""

    name: Literal["drill", "drill_poison"] = "drill"
    seconds: float = 0
    failures: int = 0
    delay: float = 0


@app.post("/drill", status_code=202)
async def enqueue(work: Work, session: Session, tasks: Tasks) -> dict[str, UUID]:
    """Write something of the request's own, and enqueue the task with it."""
    task = drill if work.name == "drill" else drill_poison
    delayed = task.using(delay=timedelta(seconds=work.delay))
    handle = await tasks.enqueue(delayed, seconds=work.seconds, failures=work.failures)
    await session.execute(
        text("INSERT INTO drill_requests (task_id) VALUES (:id)"),
        {"id": str(handle.id)},
    )

    event.listen(
        session.sync_session,
        "after_commit",
        lambda _: die_if_armed("committed"),
        once=True,
    )
    return {"id": handle.id}
