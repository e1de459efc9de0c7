"""Read the ledger and what the tasks wrote in plain SQL, as the drill needs them."""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from tests.delivery.support.database import Database, sibling

TABLES = (
    """CREATE TABLE drill_starts (
        task_id varchar(36) NOT NULL,
        attempt integer NOT NULL,
        pid integer NOT NULL,
        clock double precision NOT NULL,
        at double precision NOT NULL
    )""",
    """CREATE TABLE drill_effects (
        task_id varchar(36) NOT NULL,
        attempt integer NOT NULL
    )""",
    "CREATE TABLE drill_requests (task_id varchar(36) NOT NULL)",
)


class Books(Protocol):
    """A database of one run."""

    url: str

    def rows(self, statement: str) -> Sequence[Any]:
        """Run a query and return its rows."""

    def close(self) -> None:
        """Close the connections."""


class SqliteBooks:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{path}"
        self._connection = sqlite3.connect(path, timeout=30)
        for statement in TABLES:
            self._connection.execute(statement)
        self._connection.commit()

    def rows(self, statement: str) -> Sequence[Any]:
        """Run a query and return its rows."""
        try:
            return self._connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # The API has not migrated yet.
                return []
            raise
        finally:
            self._connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresqlServer:
    """Make a migrated database for each run: the copy of one that was migrated once."""

    def __init__(self, url: str) -> None:
        self.url = sibling(url, "drill_template")
        self._server = Database(url)
        self._server.run("CREATE DATABASE drill_template")
        self.version = str(self._server.value("SHOW server_version")).split()[0]
        self._made = 0

    def complete(self) -> None:
        """Add the drill's own tables to the migrated database."""
        template = Database(self.url)
        template.run(*TABLES)
        template.close()

    def make(self) -> Database:
        """Return a new database."""
        self._made += 1
        name = f"drill_{self._made}"
        self._server.run(f"CREATE DATABASE {name} TEMPLATE drill_template")
        return Database(sibling(self.url, name))

    def set_read_only(self, *, is_read_only: bool) -> None:
        """Refuse or accept writes from now on, by whichever connection."""
        value = "on" if is_read_only else "off"
        self._server.run(
            f"ALTER SYSTEM SET default_transaction_read_only = {value}",
            "SELECT pg_reload_conf()",
        )

    def cut_connections(self) -> None:
        """End every other connection to the server."""
        with contextlib.suppress(Exception):
            self._server.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )


def started(books: Books) -> dict[UUID, list[tuple[int, int, float, float]]]:
    """Return each task's starts in order: attempt, process, moment, process's clock."""
    starts: dict[UUID, list[tuple[int, int, float, float]]] = {}
    query = "SELECT task_id, attempt, pid, at, clock FROM drill_starts ORDER BY at"
    for task_id, *start in books.rows(query):
        starts.setdefault(UUID(task_id), []).append(
            (start[0], start[1], start[2], start[3])
        )
    return starts


def unfinished(books: Books) -> int:
    """Return how many recorded tasks have not ended."""
    [(number,)] = books.rows(
        "SELECT count(*) FROM tasks WHERE finished_at IS NULL"
    ) or [(0,)]

    return int(number)
