"""Remember every must-happen task from its enqueue to its end.

Every statement is conditional on the state that it expects to find, and every write of
an attempt names that attempt. So messages may repeat, and workers may come back from
the dead, without harm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import and_, bindparam, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.database import IS_SQLITE
from app.delivery.definitions import MustHappenTask
from app.delivery.notifications import wake_after_commit
from app.delivery.statements import TaskStatement, query
from app.delivery.table import (
    Status,
    columns,
    from_now,
    has_key,
    is_published,
    task_table,
    unfinished,
)
from app.settings import settings

INTERRUPTED = "interrupted: its worker died or hung"
MAX_RETRY_SECONDS = 3600
MAX_ERROR_CHARACTERS = 2000
PRUNE_BATCH = 5000


class Message(NamedTuple):
    """What travels through a broker: a pointer to a task, never its arguments."""

    id: UUID
    name: str
    queue: str
    # 0 to 9; a higher one runs sooner, where the broker can order its messages.
    priority: int


class Recorded(NamedTuple):
    """A task in the ledger; `created` is false if its idempotency key was known."""

    id: UUID
    created: bool


@dataclass
class Claim:
    """The right to run one attempt of a task, as long as its lease is renewed."""

    id: UUID
    name: str
    arguments: str
    attempt: int
    max_attempts: int


_is_this = columns.id == bindparam("task_id")
_at = bindparam("at", type_=columns.wake_at.type)
_delay = bindparam("delay", type_=sa.Float())
_message = bindparam("message", type_=sa.Text())
_lease_end = from_now(bindparam("lease", type_=sa.Float()))
_ended = {"finished_at": from_now(), "wake_at": None}

_insert = sqlite.insert if IS_SQLITE else postgresql.insert
RECORD = (
    _insert(task_table)
    .values(
        status=Status.QUEUED,
        attempts=0,
        created_at=from_now(),
        wake_at=func.coalesce(_at, from_now(_delay)),
    )
    .on_conflict_do_nothing(
        index_elements=[columns.name, columns.key], index_where=has_key
    )
    .returning(columns.id)
)


async def record(
    session: AsyncSession, task: MustHappenTask[Any], arguments: str
) -> Recorded:
    """Insert a task into the session's transaction: it exists only if that commits."""
    values = {
        "id": uuid7(),
        "name": task.name,
        "arguments": arguments,
        "queue": task.queue,
        "priority": task.priority,
        "key": task.key,
        "max_attempts": task.max_attempts,
        "at": task.at,
        "delay": task.delay.total_seconds(),
    }
    if task_id := await session.scalar(RECORD, values):
        wake_after_commit(session)
        return Recorded(task_id, created=True)

    known = select(columns.id).where(columns.name == task.name, columns.key == task.key)
    return Recorded((await session.scalars(known)).one(), created=False)


_may_start = columns.published_at.is_not(None) | (columns.wake_at <= from_now())
_claimed = (
    columns.id,
    columns.name,
    columns.arguments,
    columns.attempts,
    columns.max_attempts,
)
START = TaskStatement(
    sa.update(task_table)
    .where(_is_this, columns.status == Status.QUEUED, _may_start)
    .values(
        status=Status.RUNNING,
        attempts=columns.attempts + 1,
        started_at=from_now(),
        wake_at=_lease_end,
    )
    .returning(*_claimed)
)


def _fenced(**values: Any) -> TaskStatement:
    """Change a task only while an attempt of it holds the lease."""
    is_held = and_(
        columns.status == Status.RUNNING, columns.attempts == bindparam("attempt")
    )
    return TaskStatement(
        sa.update(task_table)
        .where(_is_this, is_held)
        .values(**values)
        .returning(columns.id)
    )


RENEW = _fenced(wake_at=_lease_end)
SUCCEED = _fenced(
    status=Status.SUCCEEDED, result=bindparam("outcome"), error=None, **_ended
)
FAIL = _fenced(status=Status.FAILED, error=_message, published_at=None, **_ended)
RETRY = _fenced(
    status=Status.QUEUED, error=_message, published_at=None, wake_at=from_now(_delay)
)

# A worker that freezes before its commit would keep the row locked, and its task, for
# as long.
_lease = f"{settings.lease_seconds * 1000:.0f}"
_idle_limit = func.set_config("idle_in_transaction_session_timeout", _lease, sa.true())
_succeed_in_session = (
    SUCCEED.statement if IS_SQLITE else SUCCEED.statement.returning(_idle_limit)
)


async def claim(task_id: UUID) -> Claim | None:
    """Start an attempt of a waiting task; return none if there is nothing to start."""
    row = await START.run(task_id, lease=settings.lease_seconds)
    return row and Claim(*row)


async def renew(claim: Claim) -> bool:
    """Push the end of the lease on; return whether the attempt still holds it."""
    lease = settings.lease_seconds
    return await RENEW.run(claim.id, attempt=claim.attempt, lease=lease) is not None


async def succeed(claim: Claim, result: str, session: AsyncSession | None) -> bool:
    """Mark the attempt as the one that succeeded; return false if it lost the lease.

    With a session the mark commits together with everything that was done in it.
    """
    mark = {"attempt": claim.attempt, "outcome": result}
    if session is None:
        return await SUCCEED.run(claim.id, **mark) is not None

    await session.flush()
    if await session.scalar(_succeed_in_session, {"task_id": claim.id, **mark}) is None:
        return False
    await session.commit()
    return True


async def fail(claim: Claim, error: str, retry_delay: float) -> Status | None:
    """End an attempt that did not succeed; return the task's status.

    The next attempt, if one is left, starts after `retry_delay` seconds. None is
    returned if this one had lost the lease.
    """
    # PostgreSQL's text holds neither NUL nor lone surrogates, which an exception's
    # message may.
    text = error.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    mark = {"attempt": claim.attempt, "message": text[:MAX_ERROR_CHARACTERS]}

    if claim.attempt >= claim.max_attempts:
        return await FAIL.run(claim.id, **mark) and Status.FAILED

    delay = min(retry_delay, MAX_RETRY_SECONDS)
    return await RETRY.run(claim.id, delay=delay, **mark) and Status.QUEUED


_limit = bindparam("limit", type_=sa.Integer())


def _locked(*found: sa.Select[tuple[UUID]]) -> sa.ColumnElement[bool]:
    """Return the condition of being among the first `limit` tasks that are found.

    They are locked until the commit. Those found by an earlier query come before those
    of a later one.
    """
    # By their ids alone: PostgreSQL might read all due tasks for each one if asked for
    # these again.
    locked = [
        each.limit(_limit).with_for_update(skip_locked=True).cte() for each in found
    ]

    ids = sa.union_all(*(select(each.c.id) for each in locked)).limit(_limit)
    return columns.id.in_(ids)


_is_interrupted = columns.status == Status.RUNNING
_is_last = and_(_is_interrupted, columns.attempts >= columns.max_attempts)
_due = select(columns.id).where(columns.wake_at <= from_now()).order_by(columns.wake_at)
_taken = _locked(
    _due.where(_is_interrupted), _due.where(columns.status == Status.QUEUED)
)
_take = (
    sa.update(task_table)
    .where(_taken)
    .values(
        error=case((_is_interrupted, INTERRUPTED), else_=columns.error),
        finished_at=case((_is_last, from_now()), else_=sa.null()),
        published_at=from_now(),
    )
)
TAKE = _take.values(
    status=case((_is_last, Status.FAILED), else_=Status.QUEUED),
    wake_at=case((_is_last, sa.null()), else_=from_now(_delay)),
).returning(
    columns.id,
    columns.name,
    columns.queue,
    columns.priority,
    columns.status,
    columns.error,
)
CLAIM = _take.values(
    status=case((_is_last, Status.FAILED), else_=Status.RUNNING),
    attempts=case((_is_last, columns.attempts), else_=columns.attempts + 1),
    started_at=case((_is_last, columns.started_at), else_=from_now()),
    wake_at=case((_is_last, sa.null()), else_=_lease_end),
).returning(*_claimed, columns.status)


async def take_due(limit: int, seconds: float) -> list[Message]:
    """Take tasks whose moment has come, to publish them, the most urgent first.

    Those whose worker let its lease end do not wait behind a backlog; one that used up
    its attempts so ends as failed and is not returned. Two relays never take the same
    task at a time; what nobody claims within so many seconds is due again.
    """
    messages = []
    for row in await query(TAKE, limit=limit, delay=seconds):
        if row.status == Status.QUEUED:
            # What was interrupted is late already.
            priority = 9 if row.error == INTERRUPTED else row.priority
            messages.append(Message(row.id, row.name, row.queue, priority))

    return sorted(messages, key=lambda message: -message.priority)


async def claim_due(limit: int) -> list[Claim]:
    """Start an attempt of tasks whose moment has come, in the order of `take_due`."""
    rows = await query(CLAIM, limit=limit, lease=settings.lease_seconds)
    return [Claim(*claimed) for *claimed, status in rows if status == Status.RUNNING]


async def give_back(ids: Iterable[UUID]) -> None:
    """Make tasks due again that were taken and could not be published."""
    # In the order in which claims lock them, so that neither waits for the other for
    # ever.
    taken = (
        select(columns.id)
        .where(columns.id.in_(list(ids)), is_published)
        .order_by(columns.id)
        .with_for_update()
    )

    statement = (
        sa.update(task_table)
        .where(columns.id.in_(taken))
        .values(published_at=None, wake_at=from_now())
        .returning(columns.id)
    )
    await query(statement)


async def count_published() -> dict[str, int]:
    """Return how many tasks of each queue the broker holds, as far as is known here."""
    statement = (
        select(columns.queue, func.count()).where(is_published).group_by(columns.queue)
    )
    return dict(tuple(row) for row in await query(statement))


async def presume_lost(queue: str, count: int) -> int:
    """Make due again the `count` tasks of a queue that were published first.

    Only those published at least a lease ago are taken: later ones may still be on
    their way. Returns how many there were.
    """
    is_old = columns.published_at <= from_now(-settings.lease_seconds)
    oldest = (
        select(columns.id)
        .where(is_published, columns.queue == queue, is_old)
        .order_by(columns.published_at)
    )

    statement = (
        sa.update(task_table)
        .where(_locked(oldest))
        .values(wake_at=from_now())
        .returning(columns.id)
    )
    return len(await query(statement, limit=count))


async def cancel(task_id: UUID) -> bool:
    """Cancel a task that has not ended; an attempt that runs loses its lease."""
    statement = (
        sa.update(task_table)
        .where(columns.id == task_id, unfinished)
        .values(status=Status.CANCELLED, **_ended)
        .returning(columns.id)
    )
    return bool(await query(statement))


async def replay(task_id: UUID, attempts: int) -> bool:
    """Queue a failed or cancelled task again, with so many further attempts.

    Attempts are counted on, not from one, since their number is what fences an earlier
    attempt.
    """
    may_replay = columns.status.in_([Status.FAILED, Status.CANCELLED])

    statement = (
        sa.update(task_table)
        .where(columns.id == task_id, may_replay)
        .values(
            status=Status.QUEUED,
            max_attempts=columns.attempts + attempts,
            finished_at=None,
            published_at=None,
            wake_at=from_now(),
        )
        .returning(columns.id)
    )
    return bool(await query(statement))


async def prune(limit: int = PRUNE_BATCH) -> int:
    """Delete so many succeeded and cancelled tasks past the retention time.

    Returns how many there were.
    """
    is_old = columns.finished_at <= from_now(-settings.retention_days * 86_400)
    old = (
        select(columns.id)
        .where(is_old, columns.status != Status.FAILED)
        .order_by(columns.finished_at)
    )

    statement = sa.delete(task_table).where(_locked(old)).returning(columns.id)
    return len(await query(statement, limit=limit))
