"""Record tasks outside a request, look at them, and change them."""

from typing import Any, ParamSpec
from uuid import UUID

from sqlalchemy import select, update

from app.database import session_factory
from app.delivery import Enqueuer, MustHappenTask, ledger
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
        return (await ledger.record(session, task, arguments)).id


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


async def effects(task_id: UUID) -> list[int]:
    """Return the attempts whose effects were committed."""
    async with session_factory() as session:
        found = await session.scalars(
            select(Effect.attempt).where(Effect.task_id == task_id)
        )
        return list(found)
