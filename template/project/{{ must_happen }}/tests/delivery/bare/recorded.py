"""Record tasks outside a request, look at them, and change them."""

import contextlib
from collections.abc import Iterator
from typing import Any, ParamSpec
from uuid import UUID

from sqlalchemy import event, select, update

from app.database import database_engine, session_factory
from app.delivery import BoundTask, Enqueuer, MustHappenTask, ledger
from app.delivery.due import DueTasks
from app.delivery.table import columns, from_now, task_table
from tests.delivery.support.probe_tasks import Effect

P = ParamSpec("P")


async def enqueue(task: MustHappenTask[P], *args: P.args, **kwargs: P.kwargs) -> UUID:
    """Enqueue a task as a script does."""
    async with session_factory.begin() as session:
        return (await Enqueuer(session).enqueue(task, *args, **kwargs)).id


async def record(task: MustHappenTask[Any], arguments: str = "{}") -> UUID:
    """Record a task as another release may have done, whatever arguments it took."""
    async with session_factory.begin() as session:
        [recorded] = await ledger.record(session, [BoundTask(task, arguments)])
    return recorded.id


async def get(task_id: UUID) -> Any:
    """Return a task's row."""
    async with session_factory() as session:
        found = await session.execute(select(task_table).where(columns.id == task_id))
        return found.one()


async def alter(*task_ids: UUID, **values: Any) -> None:
    """Change these tasks' rows, whatever their state."""
    statement = update(task_table).where(columns.id.in_(task_ids)).values(**values)
    async with session_factory.begin() as session:
        await session.execute(statement)


async def let_wake(*task_ids: UUID) -> None:
    """Let the moment come for which tasks wait, or the end of their leases."""
    await alter(*task_ids, wake_at=from_now(-1))


async def due() -> list[UUID]:
    """Return what a worker would start next, in its order."""
    return await DueTasks().look(1000)


async def claim(task_id: UUID) -> ledger.Claim:
    """Start an attempt, which must be possible."""
    [claimed] = await ledger.claim([task_id])
    return claimed


async def interrupt(task_id: UUID) -> None:
    """Start an attempt whose lease ends, as if its worker had died."""
    await claim(task_id)
    await let_wake(task_id)


async def effects(task_id: UUID) -> list[int]:
    """Return the attempts whose effects were committed."""
    async with session_factory() as session:
        found = await session.scalars(
            select(Effect.attempt).where(Effect.task_id == task_id)
        )
        return list(found)


@contextlib.contextmanager
def sent() -> Iterator[list[str]]:
    """Yield the statements that are sent to the database meanwhile."""
    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(args[2])

    event.listen(database_engine.sync_engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database_engine.sync_engine, "before_cursor_execute", note)
