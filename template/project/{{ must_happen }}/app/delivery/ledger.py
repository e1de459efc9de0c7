"""Remember every must-happen task from its enqueue to its end.

Every statement is conditional on the state that it expects to find, and every write of
an attempt names that attempt. So messages may repeat, and workers may come back from
the dead, without harm.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import and_, case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from app.database import IS_SQLITE
from app.delivery.definitions import BoundTask
from app.delivery.notifications import wake_after_commit
from app.delivery.statements import Batch, BatchStatement, query
from app.delivery.table import (
    Status,
    columns,
    from_now,
    has_key,
    is_published,
    locked,
    running,
    task_table,
    unfinished,
)
from app.settings import settings

INTERRUPTED = "interrupted: its worker died or hung"
# How often a task's worker may die under it; then it is taken for the cause.
MAX_INTERRUPTIONS = 5
# From then on it runs beside no other such task, so that it harms none of them.
SUSPECT_INTERRUPTIONS = 2
MAX_ERROR_CHARACTERS = 2000


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
    """The number of this start, by which every write of the attempt is fenced."""
    failures: int
    """How many attempts have raised since it was enqueued or replayed."""
    max_attempts: int
    interruptions: int
    """How many attempts ended with their worker since then."""

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what its workers died of."""
        return self.interruptions >= SUSPECT_INTERRUPTIONS


# --- From a request, or from a task that runs.

_to_record = Batch(
    columns.id,
    columns.name,
    columns.arguments,
    columns.queue,
    columns.priority,
    columns.key,
    columns.max_attempts,
    sa.column("at", columns.wake_at.type),
    sa.column("delay", sa.Float()),
)
_new = _to_record.columns
_insert = sqlite.insert if IS_SQLITE else postgresql.insert
_recorded = {
    **{name: _new[name] for name in _to_record.names[:-2]},
    "status": sa.literal_column(f"'{Status.QUEUED}'"),
    "attempts": sa.literal_column("0"),
    "failures": sa.literal_column("0"),
    "interruptions": sa.literal_column("0"),
    "created_at": from_now(),
    # No earlier than now: looks for what is due begin where the last one ended.
    "wake_at": case((_new.at > from_now(), _new.at), else_=from_now(_new.delay)),
}
RECORD = (
    _insert(task_table)
    # SQLite would take ON CONFLICT for part of a SELECT that has no WHERE.
    .from_select(list(_recorded), select(*_recorded.values()).where(sa.true()))
    .on_conflict_do_nothing(
        index_elements=[columns.name, columns.key], index_where=has_key
    )
    .returning(columns.id)
)


_to_find = Batch(columns.name, columns.key)
_is_same = and_(
    columns.name == _to_find.columns.name, columns.key == _to_find.columns.key
)
FIND = select(columns.id, columns.name, columns.key).join(_to_find.table, _is_same)


async def record(session: AsyncSession, calls: Sequence[BoundTask]) -> list[Recorded]:
    """Insert tasks into the session's transaction: they exist only if that commits."""
    # With a moment given, all other bits are random: nobody can guess one from another.
    ids = sorted(uuid7(nanoseconds=time.time_ns()) for _ in calls)
    rows: list[dict[str, Any]] = [
        {
            "id": task_id,
            "name": call.task.name,
            "arguments": call.arguments,
            "queue": call.task.queue,
            "priority": call.task.priority,
            "key": call.task.key,
            "max_attempts": call.task.max_attempts,
            "at": call.task.at,
            "delay": call.task.delay.total_seconds(),
        }
        for task_id, call in zip(ids, calls, strict=True)
    ]
    # Two that record the same keys wait for each other in one order.
    in_order = sorted(rows, key=lambda row: (row["name"], row["key"] or ""))
    created = set(await session.scalars(RECORD, _to_record.parameters(in_order)))
    if created:
        wake_after_commit(session)

    known: dict[tuple[str, str], UUID] = {}
    if others := [row for row in rows if row["id"] not in created]:
        found = await session.execute(FIND, _to_find.parameters(others))
        known = {(name, key): task_id for task_id, name, key in found}

    return [
        Recorded(row["id"], created=True)
        if row["id"] in created
        else Recorded(known[row["name"], row["key"]], created=False)
        for row in rows
    ]


# --- From a worker. Whatever an attempt writes is fenced by its number.

_is_due = columns.wake_at <= from_now()
# One whose worker was told to end is nobody's fault, however that worker ended.
_is_interrupted = and_(running, columns.shutdown_at.is_(None))
_is_last_interruption = and_(
    _is_interrupted, columns.interruptions + 1 >= MAX_INTERRUPTIONS
)


def unless_last(
    value: sa.ColumnElement[Any] | Status, otherwise: Any
) -> sa.ColumnElement[Any]:
    """Return a value for due tasks; another for those interrupted once too often."""
    return case((_is_last_interruption, otherwise), else_=value)


# What becomes of a due task, beside its new state, if it was running.
interruption = {
    "error": case((_is_interrupted, INTERRUPTED), else_=columns.error),
    "interruptions": columns.interruptions + case((_is_interrupted, 1), else_=0),
    "finished_at": unless_last(sa.null(), from_now()),
}

_to_start = Batch(columns.id, sa.column("lease", sa.Float()))
# One that somebody holds is being started elsewhere, or made due again.
_startable = locked(
    select(columns.id, _to_start.columns.lease)
    .join(_to_start.table, columns.id == _to_start.columns.id)
    .where(_is_due | is_published)
)
CLAIM = BatchStatement(
    _to_start,
    sa.update(task_table)
    .where(columns.id == _startable.c.id)
    .values(
        status=unless_last(Status.RUNNING, Status.FAILED),
        attempts=unless_last(columns.attempts + 1, columns.attempts),
        started_at=unless_last(from_now(), columns.started_at),
        shutdown_at=None,
        wake_at=unless_last(from_now(_startable.c.lease), sa.null()),
        **interruption,
    )
    .returning(
        columns.id,
        columns.name,
        columns.arguments,
        columns.attempts,
        columns.failures,
        columns.max_attempts,
        columns.interruptions,
        columns.status,
    ),
)


def _fenced(batch: Batch, **values: Any) -> BatchStatement:
    """Change tasks only while the attempts of the batch hold their leases."""
    # Not `running`: PostgreSQL would go through the index of all that run, with what it
    # keeps of those that did, instead of looking each one up.
    is_running = and_(unfinished, columns.status != Status.QUEUED)
    is_held = and_(is_running, columns.attempts == batch.columns.attempt)
    return BatchStatement(
        batch,
        sa.update(task_table)
        .where(columns.id == batch.columns.id, is_held)
        .values(**values)
        .returning(columns.id, columns.attempts),
    )


def _attempts(*others: sa.ColumnClause[Any]) -> Batch:
    return Batch(columns.id, sa.column("attempt", sa.Integer()), *others)


_to_renew = _attempts(sa.column("lease", sa.Float()))
RENEW = _fenced(_to_renew, wake_at=from_now(_to_renew.columns.lease))

_to_announce = _attempts()
ANNOUNCE_SHUTDOWN = _fenced(_to_announce, shutdown_at=from_now())

_ended = {"finished_at": from_now(), "wake_at": None}
_to_succeed = _attempts(sa.column("outcome", sa.Text()))
SUCCEED = _fenced(
    _to_succeed,
    status=Status.SUCCEEDED,
    result=_to_succeed.columns.outcome,
    error=None,
    **_ended,
)

_to_fail = _attempts(sa.column("message", sa.Text()))
FAIL = _fenced(
    _to_fail,
    status=Status.FAILED,
    failures=columns.failures + 1,
    error=_to_fail.columns.message,
    published_at=None,
    **_ended,
)

_to_retry = _attempts(sa.column("message", sa.Text()), sa.column("delay", sa.Float()))
RETRY = _fenced(
    _to_retry,
    status=Status.QUEUED,
    failures=columns.failures + 1,
    error=_to_retry.columns.message,
    published_at=None,
    wake_at=from_now(_to_retry.columns.delay),
)

_to_give_back = _attempts(sa.column("delay", sa.Float()))
GIVE_BACK = _fenced(
    _to_give_back,
    status=Status.QUEUED,
    published_at=None,
    wake_at=from_now(_to_give_back.columns.delay),
)

# A worker that freezes before its commit would keep the row locked, and its task, for
# as long.
_lease = f"{settings.lease_seconds * 1000:.0f}"
_idle_limit = func.set_config("idle_in_transaction_session_timeout", _lease, sa.true())
_succeed_in_session = (
    SUCCEED.statement if IS_SQLITE else SUCCEED.statement.returning(_idle_limit)
)


async def claim(task_ids: Iterable[UUID]) -> list[Claim]:
    """Start an attempt of those tasks that are due or that a broker was handed.

    One that is interrupted for the last time ends as failed instead.
    """
    lease = settings.lease_seconds
    rows = await CLAIM.run_all([{"id": each, "lease": lease} for each in task_ids])
    return [
        Claim(*claimed)
        for *claimed, status in filter(None, rows)
        if status == Status.RUNNING
    ]


async def renew(claims: Sequence[Claim]) -> set[tuple[UUID, int]]:
    """Push the ends of leases on; return the ids and attempts that still hold one.

    One whose row somebody has locked may hold it. Raises what the driver raises if
    nothing is known of any.
    """
    lease = settings.lease_seconds
    answers = await asyncio.gather(
        *(RENEW.run(id=each.id, attempt=each.attempt, lease=lease) for each in claims),
        return_exceptions=True,
    )
    failures = [each for each in answers if isinstance(each, BaseException)]
    if len(failures) == len(answers) > 0:
        raise failures[0]

    return {
        (claim.id, claim.attempt)
        for claim, answer in zip(claims, answers, strict=True)
        if answer is not None
    }


async def announce_shutdown(claims: Sequence[Claim]) -> None:
    """Say that the worker of these attempts ends, which is not to be counted."""
    await ANNOUNCE_SHUTDOWN.run_all(
        [{"id": each.id, "attempt": each.attempt} for each in claims]
    )


async def succeed(claim: Claim, result: str, session: AsyncSession | None) -> bool:
    """Mark the attempt as the one that succeeded; return false if it lost the lease.

    With a session the mark commits together with everything that was done in it.
    """
    mark = {"id": claim.id, "attempt": claim.attempt, "outcome": result}
    if session is None:
        return await SUCCEED.run(**mark) is not None

    await session.flush()
    marked = await session.execute(_succeed_in_session, _to_succeed.parameters([mark]))
    if marked.first() is None:
        return False
    await AsyncSession.commit(session)  # Its own refuses.
    return True


async def fail(claim: Claim, error: str, retry_delay: float) -> Status | None:
    """End an attempt that did not succeed; return the task's status.

    The next attempt, if one is left, starts after `retry_delay` seconds. None is
    returned if this one had lost the lease.
    """
    # PostgreSQL's text holds neither NUL nor lone surrogates, which an exception's
    # message may.
    text = error.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
    message = text[:MAX_ERROR_CHARACTERS]

    mark = {"id": claim.id, "attempt": claim.attempt, "message": message}
    if claim.failures + 1 >= claim.max_attempts:
        return await FAIL.run(**mark) and Status.FAILED
    return await RETRY.run(**mark, delay=retry_delay) and Status.QUEUED


async def give_back(claim: Claim, delay: float = 0) -> None:
    """End an attempt that is nobody's failure: the task is due in so many seconds."""
    await GIVE_BACK.run(id=claim.id, attempt=claim.attempt, delay=delay)


# --- From whoever hands tasks to a broker, or takes over from one.


async def take_back(limit: int, *which: sa.ColumnElement[bool]) -> int:
    """Make so many tasks due that a broker was handed, and that fit the conditions.

    One that somebody holds is being started. Returns how many there were.
    """
    taken = locked(select(columns.id).where(is_published, *which).limit(limit))
    statement = (
        sa.update(task_table)
        .where(columns.id == taken.c.id)
        .values(published_at=None, wake_at=from_now())
        .returning(columns.id)
    )
    return len(await query(statement))


# --- From an operator.


async def cancel(task_id: UUID) -> bool:
    """Cancel a task that has not ended; an attempt that runs loses its lease."""
    statement = (
        sa.update(task_table)
        .where(columns.id == task_id, unfinished)
        .values(status=Status.CANCELLED, **_ended)
        .returning(columns.id)
    )
    return bool(await query(statement))


async def replay(task_id: UUID) -> bool:
    """Queue a failed or cancelled task again, as if it had never failed.

    Its starts are counted on, since their number is what fences an earlier attempt.
    """
    may_replay = columns.status.in_([Status.FAILED, Status.CANCELLED])

    statement = (
        sa.update(task_table)
        .where(columns.id == task_id, may_replay)
        .values(
            status=Status.QUEUED,
            failures=0,
            interruptions=0,
            finished_at=None,
            published_at=None,
            wake_at=from_now(),
        )
        .returning(columns.id)
    )
    return bool(await query(statement))
