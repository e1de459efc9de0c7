"""Look at the database, and let its time pass, past the code that the model judges."""

import asyncio
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import aiosqlite
import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import settings

WRITES = (
    "CREATE TABLE model_writes"
    " (kind TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER)"
)
"""What requests and tasks write beside the ledger, in the same transactions."""

_MOMENTS = (
    "created_at",
    "started_at",
    "shutdown_at",
    "finished_at",
    "published_at",
    "wake_at",
)
_SELECT = (
    "SELECT id, name, status, queue, attempts, failures, interruptions, max_attempts,"
    " result, published_at, wake_at, finished_at, shutdown_at FROM tasks ORDER BY id"
)


@dataclass(frozen=True)
class Row:
    """A task as the database has it."""

    id: UUID
    name: str
    status: str
    queue: str
    attempts: int
    failures: int
    interruptions: int
    max_attempts: int
    result: str | None
    published_at: datetime | None
    wake_at: datetime | None
    finished_at: datetime | None
    shutdown_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether its state is final."""
        return self.status in {"succeeded", "failed", "cancelled"}


class Write(tuple[str, UUID, int | None]):
    """Kind, task and attempt of something that was written beside the ledger."""

    __slots__ = ()


@dataclass(frozen=True)
class Snapshot:
    """Everything that is committed, and the database's clock."""

    now: datetime
    rows: dict[UUID, Row]
    writes: list[Write]


class Storage(Protocol):
    """A database as the model needs it."""

    async def look(self) -> Snapshot:
        """Return what is committed."""

    async def pass_time(self, seconds: float) -> None:
        """Make every moment so much longer ago."""

    async def clear(self) -> None:
        """Delete everything."""


def _snapshot(now: datetime, rows: Iterable[Row], writes: Iterable[Any]) -> Snapshot:
    by_id = {row.id: row for row in rows}
    return Snapshot(
        now, by_id, [Write((kind, UUID(id_), at)) for kind, id_, at in writes]
    )


class SQLite:
    """A file, read by the driver itself."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous=OFF")

    async def look(self) -> Snapshot:
        """Return what is committed."""
        found = self._connection.execute(_SELECT)
        rows = [Row(UUID(row[0]), *row[1:9], *map(_moment, row[9:])) for row in found]
        writes = self._connection.execute(
            "SELECT kind, task_id, attempt FROM model_writes"
        )
        return _snapshot(datetime.now(UTC), rows, writes)

    async def pass_time(self, seconds: float) -> None:
        """Make every moment so much longer ago."""
        ago = f"'{-seconds:f} seconds'"
        shifts = ", ".join(
            f"{c} = strftime('%Y-%m-%d %H:%M:%f000', {c}, {ago})" for c in _MOMENTS
        )
        self._connection.execute(f"UPDATE tasks SET {shifts}")  # noqa: S608

    async def clear(self) -> None:
        """Delete everything."""
        self._connection.execute("DELETE FROM tasks")
        self._connection.execute("DELETE FROM model_writes")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


class PostgreSQL:
    """A server, asked by the driver itself."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, url: str) -> "PostgreSQL":
        """Connect to the database at `url`."""
        return cls(await asyncpg.connect(url))

    async def look(self) -> Snapshot:
        """Return what is committed."""
        rows = await self._connection.fetch(_SELECT)
        writes = await self._connection.fetch(
            "SELECT kind, task_id, attempt FROM model_writes"
        )
        now = await self._connection.fetchval("SELECT statement_timestamp()")
        return _snapshot(
            now, (Row(UUID(str(row[0])), *row[1:]) for row in rows), writes
        )

    async def pass_time(self, seconds: float) -> None:
        """Make every moment so much longer ago."""
        shifts = ", ".join(
            f"{c} = {c} - interval '{seconds:f} seconds'" for c in _MOMENTS
        )
        await self._connection.execute(f"UPDATE tasks SET {shifts}")  # noqa: S608

    async def clear(self) -> None:
        """Delete everything."""
        await self._connection.execute("DELETE FROM tasks; DELETE FROM model_writes")


def quicken_sqlite(engine: AsyncEngine) -> None:
    """Answer on the event loop, not through a thread, and leave safe writing to others.

    Nothing waits for SQLite here: the model does one thing at a time.
    """

    async def execute(_: Any, work: Any, *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    async def connect(self: Any) -> Any:
        self._connection = self._connector()
        return self

    def close_now(self: Any) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    connection: Any = aiosqlite.Connection
    connection._execute = execute  # noqa: SLF001 - it offers no other way
    connection.__await__ = lambda self: connect(self).__await__()
    connection.stop = close_now

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")


def open_storage(engine: AsyncEngine, loop: asyncio.AbstractEventLoop) -> Storage:
    """Return the view of the database behind the engine."""
    if engine.dialect.name == "sqlite":
        return SQLite(str(engine.url.database))
    url = settings.database_url.replace("+asyncpg", "")
    return loop.run_until_complete(PostgreSQL.connect(url))
