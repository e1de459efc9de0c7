"""Tell whoever waits for due tasks that there are some, so that they start at once.

In a process, each commit of recorded tasks wakes whoever waits there. To other
processes PostgreSQL carries a notification. It is a hint that may be lost: whoever
waits also looks for itself once in a while.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

import asyncpg
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.database import CAN_LISTEN, IS_SQLITE, connect
from app.database_url import CONNECT_SECONDS
from app.delivery.statements import query

logger = logging.getLogger(__name__)

# Seconds between two looks that nothing has woken.
INTERVAL_SECONDS = 1.0
# Seconds between two notifications of a process, which gather requests meanwhile.
PAUSE_SECONDS = 0.05
# Seconds between two looks whether the connection that brings them still answers.
CHECK_SECONDS = 15.0
CHANNEL = "tasks_due"

_waiting: set[asyncio.Event] = set()


def wake_after_commit(session: AsyncSession) -> None:
    """Wake whoever waits in this process as soon as this session commits."""
    session.info["has_recorded"] = True


@event.listens_for(Session, "after_commit")
def _wake(session: Session) -> None:
    if session.info.pop("has_recorded", False):
        for wake in _waiting:
            wake.set()


@contextlib.contextmanager
def woken_by_commits() -> Iterator[asyncio.Event]:
    """Yield an event that each commit of recorded tasks in this process sets."""
    wake = asyncio.Event()
    _waiting.add(wake)
    try:
        yield wake
    finally:
        _waiting.remove(wake)


async def wait(wake: asyncio.Event) -> None:
    """Wait until woken, or until it is time for another look."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(INTERVAL_SECONDS):
            await wake.wait()
    wake.clear()


async def notify() -> None:
    """Tell other processes that something is due; nothing is lost if that fails."""
    if IS_SQLITE:
        return
    try:
        await query(select(func.pg_notify(CHANNEL, "")))
    except Exception as error:
        logger.warning("the other processes will find out by themselves: %r", error)


async def notify_when_woken(wake: asyncio.Event) -> None:
    """Tell others what this process records, until cancelled; no request waits."""
    while True:
        await wake.wait()
        wake.clear()
        await notify()
        await asyncio.sleep(PAUSE_SECONDS)


class Listener:
    """Sets an event at each notification, over a connection of its own."""

    def __init__(self, wake: asyncio.Event) -> None:
        self._wake = wake
        self._connection: asyncpg.Connection | None = None
        self._check_at = 0.0

    async def listen(self) -> None:
        """Connect if there is no connection, or none that answers.

        SQLite has no notifications, and PgBouncer brings none if each transaction may
        have another connection. Raises what the driver raises.
        """
        if not CAN_LISTEN:
            return

        if self._connection is None or self._connection.is_closed():
            self._connection = await connect()
            await self._connection.add_listener(CHANNEL, lambda *_: self._wake.set())
        elif time.monotonic() > self._check_at:
            try:
                await self._connection.execute("SELECT 1", timeout=CONNECT_SECONDS)
            except TimeoutError:
                self._connection.terminate()
                raise
        else:
            return
        self._check_at = time.monotonic() + CHECK_SECONDS
