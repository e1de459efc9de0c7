"""Give routes what belongs to one request: its tasks."""

from typing import Annotated

from fastapi import Depends

from app.delivery import Enqueuer
from app.delivery.after_response import Calls


async def get_tasks(calls: Calls) -> Enqueuer:
    """Return what enqueues tasks for this request; `def` would take a thread for it."""
    return Enqueuer(calls)


Tasks = Annotated[Enqueuer, Depends(get_tasks)]
