"""Gather the nice-to-have tasks of a request, and run them after its response."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends
from fastapi.requests import HTTPConnection

from app.delivery.nice_to_have import Call, run_calls


async def gather_calls(
    connection: HTTPConnection, background_tasks: BackgroundTasks
) -> AsyncIterator[list[Call]]:
    """Yield a list; what it holds when the response has been sent is run then.

    Raises RuntimeError in a websocket, where no response would ever follow.
    """
    if connection.scope["type"] == "websocket":
        raise RuntimeError(
            "a websocket has no response after which tasks could run: call what is "
            "nice to have, as in `await function(...)`, and enqueue what must happen "
            "with an Enqueuer and a session for each message"
        )

    calls: list[Call] = []
    background_tasks.add_task(run_calls, calls)
    yield calls
    # FastAPI drops its background tasks if a response brings its own.
    await run_calls(calls)


Calls = Annotated[list[Call], Depends(gather_calls)]
