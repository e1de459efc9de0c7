"""Deliver parcels, each of them once, however often the carrier has to ring."""

import asyncio

from app.delivery import TaskContext, must_happen
from app.models import Delivery


class NobodyAtHomeError(Exception):
    """The carrier has to come again."""


@must_happen(max_attempts=10, retry_delay=1, queue="parcels")
async def deliver(task: TaskContext, number: int, vain: int, seconds: float) -> int:
    """Deliver a parcel, which takes its time and is in vain the first few times."""
    await asyncio.sleep(seconds)
    task.session.add(Delivery(task_id=task.id, attempt=task.attempt, parcel=number))
    await task.session.flush()
    if task.attempt <= vain:
        raise NobodyAtHomeError
    return number
