"""Give routes what belongs to one request: its session, and its tasks.

Only the API imports this module: others start sooner without FastAPI.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import session_factory
from app.delivery import Enqueuer
from app.delivery.after_response import Calls


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """Yield the request's session.

    It is committed when the route returns, and rolled back when it raises. Raises
    RuntimeError in a websocket, whose end would be that of the transaction.
    """
    if connection.scope["type"] == "websocket":
        raise RuntimeError(
            "a websocket is no transaction: for each message, write `async with "
            "session_factory.begin() as session:`, and `Enqueuer(session)` for tasks"
        )

    async with session_factory.begin() as session:
        yield session


# By default, FastAPI runs what follows the `yield` after the response: a commit that
# fails then would go unseen behind a 2xx.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]


async def get_tasks(session: Session, calls: Calls) -> Enqueuer:
    """Return what enqueues tasks for this request; `def` would take a thread for it."""
    return Enqueuer(session, calls)


Tasks = Annotated[Enqueuer, Depends(get_tasks)]
