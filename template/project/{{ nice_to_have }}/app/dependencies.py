"""Give routes and their dependencies what belongs to one request: its tasks."""

from typing import Annotated

from fastapi import BackgroundTasks, Depends

from app.delivery import TaskQueue


async def get_tasks(background_tasks: BackgroundTasks) -> TaskQueue:
    """Return the task queue of this request; `def` would take a thread for it."""
    return TaskQueue(background_tasks)


Tasks = Annotated[TaskQueue, Depends(get_tasks)]
