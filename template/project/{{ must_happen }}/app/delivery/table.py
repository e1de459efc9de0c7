"""Define the table in which every must-happen task is recorded.

One column drives time: `wake_at`, the moment at which a task is due if nothing has
happened to it by then.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import and_, func
from sqlalchemy.engine import Dialect

from app.database import IS_SQLITE, Base


class Status(StrEnum):
    """Where a task stands; the last three are final, unless it is replayed."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


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
    seconds: float | sa.ColumnElement[float] = 0,
) -> sa.ColumnElement[datetime]:
    """Return the moment so many seconds from now, by the database's clock.

    The clocks of hosts differ.
    """
    if IS_SQLITE:
        modifier = func.printf("%f seconds", seconds)
        return func.strftime("%Y-%m-%d %H:%M:%f000", "now", modifier)

    # Unlike clock_timestamp() it is the same for a whole statement, so that an index
    # serves it.
    second = sa.literal_column("interval '1 second'", sa.Interval())
    return func.statement_timestamp() + second * seconds


task_table = sa.Table(
    "tasks",
    Base.metadata,
    sa.Column("id", sa.Uuid(), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("arguments", sa.Text(), nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("queue", sa.String(200), nullable=False),
    sa.Column("priority", sa.SmallInteger(), nullable=False),
    sa.Column("key", sa.String(200)),
    sa.Column("attempts", sa.Integer(), nullable=False),
    sa.Column("failures", sa.Integer(), nullable=False),
    sa.Column("interruptions", sa.Integer(), nullable=False),
    sa.Column("max_attempts", sa.Integer(), nullable=False),
    sa.Column("error", sa.Text()),
    sa.Column("result", sa.Text()),
    sa.Column("created_at", Timestamp(), nullable=False),
    sa.Column("started_at", Timestamp()),
    sa.Column("shutdown_at", Timestamp()),
    sa.Column("finished_at", Timestamp()),
    sa.Column("published_at", Timestamp()),
    sa.Column("wake_at", Timestamp()),
    sa.CheckConstraint(
        "(wake_at IS NULL) = (finished_at IS NOT NULL)", "wakes_until_finished"
    ),
)
columns = task_table.c


def has_status(status: Status) -> sa.ColumnElement[bool]:
    """Return the condition, with its value in the text: an index is chosen by that."""
    return columns.status == sa.literal_column(f"'{status}'")


queued = has_status(Status.QUEUED)
running = has_status(Status.RUNNING)
failed = has_status(Status.FAILED)
unfinished = columns.wake_at.is_not(None)
finished = columns.finished_at.is_not(None)
has_key = columns.key.is_not(None)
is_published = and_(queued, columns.published_at.is_not(None))


def locked(found: sa.Select[Any]) -> sa.CTE:
    """Return the tasks that a query finds and nobody holds, locked until the commit.

    What changes them names them by their ids alone: with the conditions repeated,
    PostgreSQL might look for all of them again for each one.
    """
    return found.with_for_update(of=task_table, skip_locked=True).cte("locked")


def _add_index(
    name: str,
    *indexed: sa.Column[object],
    where: sa.ColumnElement[bool],
    unique: bool = False,
) -> None:
    sa.Index(name, *indexed, unique=unique, postgresql_where=where, sqlite_where=where)


_add_index("ix_tasks_queued", columns.priority, columns.wake_at, where=queued)
_add_index("ix_tasks_running", columns.wake_at, where=running)
_add_index("ix_tasks_finished_at", columns.finished_at, where=finished)
_add_index("ix_tasks_failed", columns.id, where=failed)
_add_index("uq_tasks_name_key", columns.name, columns.key, where=has_key, unique=True)
