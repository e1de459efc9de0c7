"""Give routes what belongs to one request: its tasks."""

from typing import Annotated

from fastapi import BackgroundTasks, Depends

from app.delivery import Enqueuer


async def get_tasks(background_tasks: BackgroundTasks) -> Enqueuer:
    """Return what enqueues tasks for this request; `def` would take a thread for it."""
    return Enqueuer(background_tasks)


Tasks = Annotated[Enqueuer, Depends(get_tasks)]
