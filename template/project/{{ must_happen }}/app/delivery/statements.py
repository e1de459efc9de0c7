"""Send the ledger's statements to the database, those of concurrent tasks together.

What every task needs is compiled once and shares a round trip and a commit with its
neighbours. On PostgreSQL it goes straight to the driver: SQLAlchemy would take more
time than the database.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import asyncpg
import sqlalchemy as sa

from app.database import IS_SQLITE, connect, database_engine

# Seconds until an unanswered statement fails and another connection is opened.
TIMEOUT = 10.0

Row = sa.Row[*tuple[Any, ...]]


async def query(statement: sa.Executable, **parameters: object) -> Sequence[Row]:
    """Run one statement in a transaction of its own and return its rows."""
    async with database_engine.connect() as connection:
        if not IS_SQLITE:  # One round trip for a statement, not three.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
        async with connection.begin():
            return (await connection.execute(statement, parameters)).all()


class TaskStatement:
    """A statement that changes one task and returns its row, if its state is right.

    `task_id` is one of its parameters, and the first column of its row.
    """

    def __init__(self, statement: sa.UpdateBase) -> None:
        self.statement = statement
        compiled: Any = statement.compile(dialect=database_engine.dialect)
        self.sql = str(compiled)
        self.defaults = {name: compiled.params[name] for name in compiled.positiontup}

    async def run(self, task_id: UUID, **parameters: object) -> Any | None:
        """Run it in a transaction of its own, or together with its neighbours.

        Raises what the driver raises. A caller that is cancelled does not know whether
        it ran.
        """
        loop = asyncio.get_running_loop()
        sender = _senders.setdefault(loop, _Sender())

        row: asyncio.Future[Any] = loop.create_future()
        sender.waiting.append((self, {"task_id": task_id, **parameters}, row))
        sender.sending = sender.sending or loop.create_task(sender.send_waiting())
        return await row


class _Sender:
    """Sends, over one connection of an event loop, what came to wait while it sent."""

    def __init__(self) -> None:
        self.waiting: list[
            tuple[TaskStatement, dict[str, Any], asyncio.Future[Any]]
        ] = []
        self.sending: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection | None = None

    async def send_waiting(self) -> None:
        while self.waiting:
            # Everyone locks rows in the order of their ids: no two wait for each other.
            calls = sorted(self.waiting, key=lambda call: call[1]["task_id"])
            self.waiting = []

            for statement in {call[0]: None for call in calls}:
                batch = [call[1:] for call in calls if call[0] is statement]
                await self._answer(statement, batch)

        self.sending = None

    async def _answer(
        self,
        statement: TaskStatement,
        batch: list[tuple[dict[str, Any], asyncio.Future[Any]]],
    ) -> None:
        try:
            rows = await self._send(statement, [parameters for parameters, _ in batch])

            found = {row[0]: row for row in rows}
            answers = [
                found.pop(parameters["task_id"], None) for parameters, _ in batch
            ]
        except BaseException as error:
            for _, row in batch:
                if not row.done():
                    row.set_exception(error)
        else:
            for (_, row), answer in zip(batch, answers, strict=True):
                if not row.done():
                    row.set_result(answer)

    async def _send(
        self, statement: TaskStatement, batch: list[dict[str, Any]]
    ) -> Sequence[Any]:
        if IS_SQLITE:
            async with database_engine.begin() as transaction:
                results = [
                    await transaction.execute(statement.statement, each)
                    for each in batch
                ]
                return [row for result in results for row in result]

        if self._connection is None or self._connection.is_closed():
            self._connection = await connect()

        values = [list({**statement.defaults, **each}.values()) for each in batch]
        try:
            async with asyncio.timeout(TIMEOUT):
                return list(await self._connection.fetchmany(statement.sql, values))
        except TimeoutError:
            self._connection.terminate()
            raise


_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sender] = WeakKeyDictionary()
