"""Add a route to the service whose tasks take as long as a test tells them to."""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from app.delivery import nice_to_have
from app.dependencies import Tasks
from app.main import app


@nice_to_have(time_limit=3600)
async def linger(until: Path) -> None:
    """Wait, on the event loop, until a file exists."""
    while not until.exists():  # noqa: ASYNC110, ASYNC240 -- no event
        await asyncio.sleep(0.01)


@nice_to_have
def leave_trace(trace: Path) -> None:
    """Show that this ran."""
    trace.touch()


class Wish(BaseModel):
    """How long to linger, and what to leave behind."""

    until: Path
    trace: Path


@app.post("/linger", status_code=202)
async def enqueue_lingering(wish: Wish, tasks: Tasks) -> None:
    """Enqueue both."""
    await tasks.enqueue(linger, wish.until)
    await tasks.enqueue(leave_trace, wish.trace)
