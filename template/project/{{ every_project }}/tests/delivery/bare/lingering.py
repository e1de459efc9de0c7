"""The service with one more route, whose tasks take as long as a test tells them to."""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from app.delivery import nice_to_have
from app.dependencies import Tasks
from app.main import app


@nice_to_have
async def linger(seconds: float) -> None:
    """Take some time on the event loop."""
    await asyncio.sleep(seconds)


@nice_to_have
def leave_trace(trace: Path) -> None:
    """Show that this ran."""
    trace.touch()


class Wish(BaseModel):
    """How long to linger, and what to leave behind."""

    seconds: float
    trace: Path


@app.post("/linger", status_code=202)
async def enqueue_lingering(wish: Wish, tasks: Tasks) -> None:
    """Enqueue both."""
    await tasks.enqueue(linger, wish.seconds)
    await tasks.enqueue(leave_trace, wish.trace)
