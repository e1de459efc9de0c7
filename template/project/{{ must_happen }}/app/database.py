"""Open connections and sessions, and let no wait for one last long.

That goes for a place in the pool, for the server and its answers, and for the lock of
SQLite.
"""

import asyncio
import socket
import sqlite3
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import (
    URL,
    Connection,
    ExceptionContext,
    MetaData,
    PoolResetState,
    event,
    exc,
)
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from app.database_url import CONNECT_SECONDS, Address, read_postgresql_url
from app.settings import settings

IS_SQLITE = settings.database_url.startswith("sqlite")
CAN_LISTEN = not (IS_SQLITE or read_postgresql_url(settings.database_url).is_pooled)

# PostgreSQL's code for what a read-only server refuses.
READ_ONLY = "25006"
# Failures to connect after which another host may do better.
_TRY_NEXT = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.TargetServerAttributeNotMatched,
)


class Base(DeclarativeBase):
    """The declarative base of every table of this service."""

    # Explicit names, so that migrations can alter constraints on every database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


async def _connect(
    address: Address, statement_seconds: float | None = None
) -> asyncpg.Connection:
    for host, port in address.hosts:
        try:
            connection = await asyncpg.connect(
                host=host,
                port=port,
                database=address.database,
                command_timeout=statement_seconds,
                **address.arguments,
            )
        except _TRY_NEXT as error:
            failure = error
            continue

        found = connection._transport.get_extra_info("socket")
        if found.family in (socket.AF_INET, socket.AF_INET6):
            for option in address.socket_options:
                found.setsockopt(*option)
        return connection

    # SQLAlchemy wraps the driver's own errors only.
    raise asyncpg.InterfaceError(
        f"cannot connect to the database: {failure}"
    ) from failure


class _Connection(sqlite3.Connection):
    def close(self) -> None:
        # With a cursor still open, as after a cancellation, SQLite would keep its lock
        # until the cursor is collected (sqlite.org/c3ref/close.html).
        self.rollback()
        super().close()


def create_database_engine(
    url: str, statement_seconds: float | None = None, **options: Any
) -> AsyncEngine:
    """Create an engine, which opens its connections when they are first needed.

    PostgreSQL has so many seconds to answer a statement, or any number.
    """
    options["hide_parameters"] = True  # Errors are shown to whoever knows a task's id.

    if url.startswith("postgres"):
        address = read_postgresql_url(url)
        shown = URL.create(
            "postgresql+asyncpg",
            host=",".join(name for name, _ in address.hosts if name),
            database=address.database,
        )
        creator = partial(_connect, address, statement_seconds)
        engine = create_async_engine(shown, async_creator=creator, **options)
        event.listen(engine.sync_engine, "checkout", _replace_closed)
        event.listen(engine.sync_engine, "handle_error", _replace_useless)
        return engine

    connect_args = {
        "timeout": CONNECT_SECONDS,
        "isolation_level": None,
        "factory": _Connection,
    }
    engine = create_async_engine(url, connect_args=connect_args, **options)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    event.listen(engine.sync_engine, "reset", _end_transaction)
    return engine


def _replace_closed(connection: Any, *_: object) -> None:
    # After a restart of the server nobody fails on a connection that was idle
    # meanwhile. The driver knows; `pool_pre_ping` would ask the server, each time.
    if connection.driver_connection.is_closed():
        raise exc.DisconnectionError


def _replace_useless(context: ExceptionContext) -> exc.DBAPIError | None:
    error = context.original_exception
    if isinstance(error, TimeoutError):
        # The other connections may be as silent: all are replaced.
        context.is_disconnect = True
        return exc.OperationalError(
            "no answer from the database", None, error, connection_invalidated=True
        )

    # The server was demoted, or has just told the driver, which waited for nothing,
    # that it ends the connection: all connections to it are replaced.
    is_confused = isinstance(error.__cause__, asyncpg.InternalClientError)
    if is_confused or getattr(error, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True
    return None


def _configure_sqlite(connection: Any, _: object) -> None:
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads before it writes fails at once if another one wrote in
    # between; one that takes the write lock at its start waits
    # (sqlite.org/lang_transaction.html).
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _end_transaction(connection: Any, _: object, state: PoolResetState) -> None:
    if not state.terminate_only:
        # A COMMIT that fails leaves its transaction, and its lock, open.
        connection.rollback()


class _OneLoop:
    """Keeps a pool's connections to the event loop that uses them first.

    In another one, as `asyncio.run` in the thread of a `def` task starts it, whoever
    waits for a connection may wait for ever.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self, *_: object) -> None:
        """Raise RuntimeError if the connection is taken out in another event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._loop and self._loop.is_running():
            raise RuntimeError(
                "this event loop has no use for the connections of the process's: "
                "declare what uses the database with `async def`"
            )
        self._loop = loop


# SQLite runs one transaction at a time: here the next one waits its turn, there it
# would poll.
_pool_size, _max_overflow = (1, 0) if IS_SQLITE else (10, 20)
database_engine = create_database_engine(
    settings.database_url,
    settings.statement_seconds,
    pool_size=_pool_size,
    max_overflow=_max_overflow,
    pool_timeout=CONNECT_SECONDS,
)
event.listen(database_engine.sync_engine, "checkout", _OneLoop().check)
session_factory = async_sessionmaker(
    database_engine,
    expire_on_commit=False,
    # A session that is used after its request has ended raises; it would open another
    # transaction, which nobody ends.
    close_resets_only=False,
)


async def connect() -> asyncpg.Connection:
    """Open a connection of PostgreSQL's driver, past SQLAlchemy."""
    return await _connect(read_postgresql_url(settings.database_url))
