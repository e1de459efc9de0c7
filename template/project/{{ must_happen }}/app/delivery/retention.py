"""Delete tasks that ended long ago, a few at a time and beside all other work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import sqlalchemy as sa
from sqlalchemy import select

from app.delivery.outages import Outage
from app.delivery.statements import query
from app.delivery.table import (
    Status,
    columns,
    finished,
    from_now,
    locked,
    task_table,
)
from app.settings import settings

# How many are deleted at a time, and how many seconds lie between two times.
BATCH = 5000
INTERVAL_SECONDS = 5.0


async def prune(limit: int = BATCH) -> int:
    """Delete so many succeeded and cancelled tasks past the retention time.

    Returns how many there were.
    """
    is_old = columns.finished_at <= from_now(-settings.retention_days * 86_400)
    old = locked(
        select(columns.id)
        .where(finished, is_old, columns.status != Status.FAILED)
        .order_by(columns.finished_at)
        .limit(limit)
    )

    statement = sa.delete(task_table).where(columns.id.in_(select(old.c.id)))
    return len(await query(statement.returning(columns.id)))


async def prune_regularly() -> None:
    """Delete what is old, until cancelled; while the database is away, try on."""
    outage = Outage("old tasks cannot be deleted")
    while True:
        try:
            await prune()
            outage.end()
        except Exception as error:
            outage.go_on(error)
        await asyncio.sleep(INTERVAL_SECONDS)


@contextlib.asynccontextmanager
async def pruning() -> AsyncIterator[None]:
    """Delete what is old meanwhile."""
    deleting = asyncio.create_task(prune_regularly())
    try:
        yield
    finally:
        deleting.cancel()
        # A statement that is under way must not outlive the event loop.
        await asyncio.wait({deleting})
