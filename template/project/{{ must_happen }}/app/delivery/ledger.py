"""Remember every must-happen task from its enqueue to its end, which no broker does.

One column drives time: `wake_at`, the moment at which the relay acts on a task if
nothing has happened to it by then. Every statement is conditional on the state it
expects to find, and every write of an attempt names that attempt, so that messages may
repeat and workers may come back from the dead without harm.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import and_, bindparam, case, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from app.database import Base
from app.delivery.statements import IS_SQLITE, TaskStatement, query
from app.settings import settings

if TYPE_CHECKING:
    from app.delivery.definitions import MustHappenTask

DEFAULT_QUEUE = "default"
INTERRUPTED = "interrupted: its worker died or hung"
MAX_RETRY_SECONDS = 3600
MAX_ERROR_CHARACTERS = 2000

on_commit: Callable[[], object] = lambda: None  # noqa: E731 -- the API puts its own here
"""Called when a transaction of this process that recorded tasks has committed."""


class Status(StrEnum):
    """Where a task stands; the last three are final, a replay aside."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Message(NamedTuple):
    """What travels through a broker: a pointer to a task, never its arguments."""

    id: UUID
    name: str
    queue: str
    # 0 to 9; a higher one runs sooner, where the broker can order its messages.
    priority: int


class Recorded(NamedTuple):
    """A task in the ledger; `created` is false if its idempotency key was known already."""

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


class Timestamp(sa.TypeDecorator[datetime]):
    """A moment in UTC, with its time zone on SQLite too, which stores none."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Convert to UTC."""
        return value and value.astimezone(UTC)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Give back the time zone."""
        return value and value.replace(tzinfo=value.tzinfo or UTC)


def from_now(
    seconds: float | sa.BindParameter[float] = 0,
) -> sa.ColumnElement[datetime]:
    """The moment so many seconds from now by the database's clock: the clocks of hosts differ."""
    if IS_SQLITE:
        return func.strftime(
            "%Y-%m-%d %H:%M:%f000", "now", func.printf("%f seconds", seconds)
        )
    # Unlike clock_timestamp() it is the same for a whole statement, so that an index
    # serves it.
    return func.statement_timestamp() + _SECOND * seconds


_SECOND = sa.literal_column("interval '1 second'", sa.Interval())


tasks = sa.Table(
    "tasks",
    Base.metadata,
    sa.Column("id", sa.Uuid(), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("arguments", sa.Text(), nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("queue", sa.String(200), nullable=False),
    sa.Column("priority", sa.SmallInteger(), nullable=False),
    sa.Column("key", sa.String(200)),
    sa.Column("attempts", sa.SmallInteger(), nullable=False),
    sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
    sa.Column("error", sa.Text()),
    sa.Column("result", sa.Text()),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("started_at", Timestamp()),
    sa.Column("finished_at", Timestamp()),
    sa.Column("published_at", Timestamp()),
    sa.Column("wake_at", Timestamp()),
    sa.CheckConstraint(
        "(wake_at IS NULL) = (finished_at IS NOT NULL)", "wakes_until_finished"
    ),
)
t = tasks.c
wakes = t.wake_at.is_not(None)
has_failed = t.status == sa.literal_column("'failed'")
_has_key = t.key.is_not(None)
_is_published = and_(wakes, t.status == Status.QUEUED, t.published_at.is_not(None))

for _name, _columns, _where in (
    ("ix_tasks_status_wake_at", [t.status, t.wake_at], wakes),
    ("ix_tasks_finished_at", [t.finished_at], t.finished_at.is_not(None)),
    ("ix_tasks_failed", [t.id], has_failed),
    ("uq_tasks_name_key", [t.name, t.key], _has_key),
):
    _unique = _name.startswith("uq")
    sa.Index(
        _name, *_columns, unique=_unique, postgresql_where=_where, sqlite_where=_where
    )


_id = t.id == bindparam("task_id")
_delay = bindparam("delay", type_=sa.Float())
_message = bindparam("message", type_=sa.Text())
_lease_end = from_now(bindparam("lease", type_=sa.Float()))
_ended = {"finished_at": from_now(), "wake_at": None}

_insert = (sqlite.insert(tasks) if IS_SQLITE else postgresql.insert(tasks)).values(
    status=Status.QUEUED,
    attempts=0,
    created_at=from_now(),
    wake_at=func.coalesce(bindparam("at", type_=t.wake_at.type), from_now(_delay)),
)
_insert = _insert.on_conflict_do_nothing(
    index_elements=[t.name, t.key], index_where=_has_key
)
RECORD = _insert.returning(t.id)


async def record(
    session: AsyncSession, task: "MustHappenTask[Any]", arguments: str
) -> Recorded:
    """Insert a task into the session's own transaction: it exists only if that commits."""
    values = {
        name: getattr(task, name) for name in ("name", "queue", "priority", "key", "at")
    }
    values |= {"id": uuid7(), "arguments": arguments, "max_attempts": task.max_attempts}
    values["delay"] = task.delay.total_seconds()
    if task_id := await session.scalar(RECORD, values):
        session.info["has_recorded"] = True
        return Recorded(task_id, created=True)
    known = select(t.id).where(t.name == task.name, t.key == task.key)
    return Recorded((await session.scalars(known)).one(), created=False)


@event.listens_for(Session, "after_commit")
def _announce(session: Session) -> None:
    if session.info.pop("has_recorded", False):
        on_commit()


_may_start = t.published_at.is_not(None) | (t.wake_at <= from_now())
_start = sa.update(tasks).where(_id, t.status == Status.QUEUED, _may_start)
_start = _start.values(
    status=Status.RUNNING, attempts=t.attempts + 1, started_at=from_now()
)
_claimed = (t.id, t.name, t.arguments, t.attempts, t.max_attempts)
START = TaskStatement(_start.values(wake_at=_lease_end).returning(*_claimed))


def _fenced(**values: Any) -> TaskStatement:
    """Change a task only while an attempt of it holds the lease."""
    held = (_id, t.status == Status.RUNNING, t.attempts == bindparam("attempt"))
    return TaskStatement(sa.update(tasks).where(*held).values(**values).returning(t.id))


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
    """Mark the attempt as the one that succeeded; return false if it holds the lease no longer.

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
    """End an attempt that did not succeed; return the task's status, none if the lease was lost.

    The next attempt, if one is left, starts after `retry_delay` seconds.
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
    """Whether a task is among the first `limit` that are found and locked, until the commit.

    Those found by an earlier query come before those of a later one.
    """
    # By their ids alone: PostgreSQL might read all due tasks for each one if asked for
    # these again.
    locked = [
        each.limit(_limit).with_for_update(skip_locked=True).cte() for each in found
    ]
    return t.id.in_(sa.union_all(*(select(each.c.id) for each in locked)).limit(_limit))


_due = select(t.id).where(t.wake_at <= from_now()).order_by(t.wake_at)
_interrupted = t.status == Status.RUNNING
_is_last = and_(_interrupted, t.attempts >= t.max_attempts)
_taken = _locked(_due.where(_interrupted), _due.where(t.status == Status.QUEUED))
_take = sa.update(tasks).where(_taken)
_take = _take.values(
    error=case((_interrupted, INTERRUPTED), else_=t.error),
    finished_at=case((_is_last, from_now()), else_=sa.null()),
    published_at=from_now(),
)
TAKE = _take.values(
    status=case((_is_last, Status.FAILED), else_=Status.QUEUED),
    wake_at=case((_is_last, sa.null()), else_=from_now(_delay)),
).returning(t.id, t.name, t.queue, t.priority, t.status, t.error)
CLAIM = _take.values(
    status=case((_is_last, Status.FAILED), else_=Status.RUNNING),
    attempts=case((_is_last, t.attempts), else_=t.attempts + 1),
    started_at=case((_is_last, t.started_at), else_=from_now()),
    wake_at=case((_is_last, sa.null()), else_=_lease_end),
).returning(*_claimed, t.status)


async def take_due(limit: int, seconds: float) -> list[Message]:
    """Take tasks whose moment has come, to publish them, the most urgent first.

    Those whose worker let its lease end do not wait behind a backlog; one that used up
    its attempts so ends as failed and is not returned. Two relays never take the same
    task at a time; what nobody claims within so many seconds is due again.
    """
    messages = [
        # What was interrupted is late already.
        Message(
            row.id, row.name, row.queue, 9 if row.error == INTERRUPTED else row.priority
        )
        for row in await query(TAKE, limit=limit, delay=seconds)
        if row.status == Status.QUEUED
    ]
    return sorted(messages, key=lambda message: -message.priority)


async def claim_due(limit: int) -> list[Claim]:
    """Start an attempt of tasks whose moment has come, in the order of `take_due`."""
    rows = await query(CLAIM, limit=limit, lease=settings.lease_seconds)
    return [Claim(*claimed) for *claimed, status in rows if status == Status.RUNNING]


async def give_back(ids: Iterable[UUID]) -> None:
    """Make tasks due again that were taken and could not be published."""
    taken = select(t.id).where(t.id.in_(list(ids)), _is_published)
    # In the order in which claims lock them, so that neither waits for the other for
    # ever.
    taken = taken.order_by(t.id).with_for_update()
    statement = sa.update(tasks).where(t.id.in_(taken)).returning(t.id)
    await query(statement.values(published_at=None, wake_at=from_now()))


async def count_published() -> dict[str, int]:
    """Return how many tasks of each queue wait in the broker, as far as the ledger knows."""
    statement = select(t.queue, func.count()).where(_is_published).group_by(t.queue)
    return dict(tuple(row) for row in await query(statement))


async def presume_lost(queue: str, count: int) -> int:
    """Let the relay publish again the `count` tasks of a queue that were published first.

    Only those published at least a lease ago are taken: later ones may still be on
    their way. Returns how many there were.
    """
    is_old = t.published_at <= from_now(-settings.lease_seconds)
    oldest = select(t.id).where(_is_published, t.queue == queue, is_old)
    oldest = oldest.order_by(t.published_at)
    statement = sa.update(tasks).where(_locked(oldest)).values(wake_at=from_now())
    return len(await query(statement.returning(t.id), limit=count))


async def cancel(task_id: UUID) -> bool:
    """Cancel a task that has not ended; an attempt that runs loses its lease."""
    statement = sa.update(tasks).where(t.id == task_id, wakes).returning(t.id)
    return bool(await query(statement.values(status=Status.CANCELLED, **_ended)))


async def replay(task_id: UUID, attempts: int) -> bool:
    """Queue a failed or cancelled task again, with so many further attempts.

    Attempts are counted on, not from one, since their number is what fences an earlier
    attempt.
    """
    may_replay = t.status.in_([Status.FAILED, Status.CANCELLED])
    statement = sa.update(tasks).where(t.id == task_id, may_replay).returning(t.id)
    statement = statement.values(
        status=Status.QUEUED, max_attempts=t.attempts + attempts
    )
    statement = statement.values(
        finished_at=None, published_at=None, wake_at=from_now()
    )
    return bool(await query(statement))


async def prune(limit: int) -> int:
    """Delete so many succeeded and cancelled tasks past the retention time; return how many."""
    is_old = t.finished_at <= from_now(-settings.retention_days * 86_400)
    old = select(t.id).where(is_old, t.status != Status.FAILED).order_by(t.finished_at)
    return len(
        await query(sa.delete(tasks).where(_locked(old)).returning(t.id), limit=limit)
    )
