"""Look at the database past the project's own code, which may be at fault."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine


class Database:
    """Runs statements one by one, each committed at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
        )
        self._runner = asyncio.Runner()

    def rows(self, statement: str, **parameters: object) -> Sequence[Row[Any]]:
        """Run a query and return its rows."""

        async def run() -> Sequence[Row[Any]]:
            async with self._engine.connect() as connection:
                return (await connection.execute(text(statement), parameters)).all()

        return self._runner.run(run())

    def value(self, statement: str, **parameters: object) -> Any:
        """Run a query and return the one value of its one row."""
        [(value,)] = self.rows(statement, **parameters)
        return value

    def run(self, *statements: str) -> None:
        """Run statements that return nothing."""

        async def run() -> None:
            async with self._engine.connect() as connection:
                for statement in statements:
                    await connection.execute(text(statement))

        self._runner.run(run())

    @contextlib.contextmanager
    def uncommitted(self, statement: str, **parameters: object) -> Iterator[None]:
        """Run a statement now, and commit it only at the end."""

        async def begin() -> AsyncConnection:
            connection = await self._engine.connect()
            await connection.execution_options(isolation_level="READ COMMITTED")
            await connection.execute(text(statement), parameters)
            return connection

        async def commit(connection: AsyncConnection) -> None:
            await connection.commit()
            await connection.close()

        connection = self._runner.run(begin())
        try:
            yield
        finally:
            self._runner.run(commit(connection))

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._engine.dispose())
        self._runner.close()


def sibling(url: str, name: str) -> str:
    """The URL of the database `name` on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)
