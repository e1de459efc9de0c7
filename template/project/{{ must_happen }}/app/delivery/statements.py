"""Send the ledger's statements to the database, those of concurrent tasks as one.

A statement takes a batch of rows and answers each of them, so that a thousand tasks
that end together cost one round trip and one commit. On PostgreSQL it goes straight to
the driver: SQLAlchemy would take more time than the database.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from app.database import CAN_LISTEN, IS_SQLITE, connect, database_engine
from app.settings import settings

# Seconds until an unanswered statement fails and another connection is opened.
TIMEOUT = 10.0
# Milliseconds until a statement gives up a row that somebody else has locked, so that
# the others of its batch can go on without it before their leases end.
LOCK_TIMEOUT = round(min(settings.lease_seconds / 6, TIMEOUT / 2) * 1000)

Row = sa.Row[*tuple[Any, ...]]
Values = Mapping[str, Any]
Answer = asyncio.Future[list[Any | None]]
Call = tuple[Sequence[Values], Answer]


async def query(statement: sa.Executable, **parameters: object) -> Sequence[Row]:
    """Run one statement in a transaction of its own and return its rows."""
    async with database_engine.connect() as connection:
        if not IS_SQLITE:  # One round trip for a statement, not three.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
        async with connection.begin():
            return (await connection.execute(statement, parameters)).all()


class Batch:
    """Rows that are handed to a statement, which reads them as a table."""

    def __init__(self, *columns: sa.ColumnClause[Any]) -> None:
        self.names = [column.name for column in columns]

        if IS_SQLITE:
            each = func.json_each(bindparam("batch")).table_valued("value").c.value
            values = (func.json_extract(each, f"$.{name}") for name in self.names)
            self.table: sa.FromClause = select(
                *(
                    sa.type_coerce(value, column.type).label(column.name)
                    for value, column in zip(values, columns, strict=True)
                )
            ).subquery("batch")
        else:
            # A parameter with the name of a column would be a value to set it to.
            arrays = (
                bindparam(f"batch_{column.name}", type_=sa.ARRAY(column.type))
                for column in columns
            )
            # Not the arrays themselves: PostgreSQL would plan anew for their lengths.
            hidden = (select(array).scalar_subquery() for array in arrays)
            unnested = func.unnest(*hidden).table_valued(*columns, name="batch")
            self.table = unnested.render_derived()

        self.columns = self.table.c

    def parameters(self, rows: Sequence[Values]) -> dict[str, Any]:
        """Return what a statement that reads these rows is executed with."""
        if IS_SQLITE:
            return {"batch": json.dumps(rows, default=_as_sqlite_stores_it)}
        return {f"batch_{name}": [row[name] for row in rows] for name in self.names}


def _as_sqlite_stores_it(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, UUID):
        return value.hex
    raise TypeError(value)


class BatchStatement:
    """A statement that changes the tasks of a batch whose state is right.

    It returns a row for each of them. The batch has a column `id` and, if the statement
    is fenced, `attempt`; the rows begin with the same.
    """

    def __init__(self, batch: Batch, statement: sa.UpdateBase) -> None:
        self.batch = batch
        self.statement = statement
        self._is_fenced = "attempt" in batch.names

        compiled: Any = statement.compile(dialect=database_engine.dialect)
        self._sql = str(compiled)
        self._values = {name: compiled.params[name] for name in compiled.positiontup}

    async def run(self, **values: object) -> Any | None:
        """Change one task, together with its neighbours; return its row, if any.

        Raises what the driver raises. A caller that is cancelled does not know whether
        it ran.
        """
        [row] = await self.run_all([values])
        return row

    async def run_all(self, rows: Sequence[Values]) -> list[Any | None]:
        """Change several tasks, and return the row of each, or none, in their order."""
        loop = asyncio.get_running_loop()
        # Tasks start while others end.
        senders = _senders.setdefault(loop, (_Sender(), _Sender()))
        sender = senders[self._is_fenced]

        answer: Answer = loop.create_future()
        sender.waiting.append((self, rows, answer))
        sender.sending = sender.sending or loop.create_task(sender.send_waiting())
        return await answer

    async def send(
        self, rows: Sequence[Values], connection: asyncpg.Connection | None
    ) -> list[Any | None]:
        """Run it at once, over a connection of PostgreSQL's driver if there is one."""
        parameters = self.batch.parameters(rows)
        if connection is None:
            async with database_engine.begin() as transaction:
                found = list(await transaction.execute(self.statement, parameters))
        else:
            values = {**self._values, **parameters}.values()
            found = await connection.fetch(self._sql, *values)

        names = ("id", "attempt") if self._is_fenced else ("id",)
        changed = {tuple(row[: len(names)]): row for row in found}
        # Of two callers that name the same task, one is answered.
        return [changed.pop(tuple(row[name] for name in names), None) for row in rows]


class _Sender:
    """Sends, over a connection of its own, what came to wait while it sent."""

    def __init__(self) -> None:
        self.waiting: list[tuple[BatchStatement, Sequence[Values], Answer]] = []
        self.sending: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None

    async def send_waiting(self) -> None:
        while self.waiting:
            calls, self.waiting = self.waiting, []
            for statement in {call[0]: None for call in calls}:
                own = [call[1:] for call in calls if call[0] is statement]
                await self._answer(statement, own)

        self.sending = None

    async def _answer(self, statement: BatchStatement, calls: Sequence[Call]) -> None:
        try:
            batch = [row for rows, _ in calls for row in rows]
            found = iter(await self._send(statement, batch))
        except BaseException as error:
            if len(calls) > 1 and self._is_connected():
                # What the database refuses fails alone, without its neighbours.
                for call in calls:
                    await self._answer(statement, [call])
                return

            for _, answer in calls:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for rows, answer in calls:
                own = [next(found) for _ in rows]
                if not answer.done():
                    answer.set_result(own)

    def _is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def _send(
        self, statement: BatchStatement, rows: Sequence[Values]
    ) -> list[Any | None]:
        if IS_SQLITE:
            return await statement.send(rows, None)

        if self._connection is None or self._connection.is_closed():
            self._connection = await connect()
            if CAN_LISTEN:  # Not for whoever is lent the connection next.
                await self._connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT}")

        try:
            async with asyncio.timeout(TIMEOUT):
                return await statement.send(rows, self._connection)
        except (TimeoutError, asyncpg.ReadOnlySQLTransactionError):
            # Nothing comes of this connection as long as the server is demoted.
            self._connection.terminate()
            raise


_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[_Sender, _Sender]] = (
    WeakKeyDictionary()
)
