"""Give each test the service in this process, on an empty SQLite database of this run's own."""

import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
from fastapi.testclient import TestClient

if "app.settings" in sys.modules:
    raise pytest.UsageError(
        "tests/delivery/bare must be collected before what imports the settings"
    )

ROOT = Path(__file__).parents[3]
_folder = tempfile.TemporaryDirectory(prefix="bare-tests-")
DATABASE = Path(_folder.name).resolve() / "database" / "app.db"

with pytest.MonkeyPatch.context() as environment:
    environment.chdir(_folder.name)  # where there is no .env
    for name in (
        "BROKER_URL",
        "LEASE_SECONDS",
        "MAX_BODY_BYTES",
        "OPERATOR_TOKEN",
        "PORT",
    ):
        environment.delenv(name, raising=False)
    environment.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{DATABASE}")

    from app.database import database_engine
    from app.delivery import definitions, notifications
    from tests.delivery.bare.probes import TABLES, service

Query = Callable[..., list[Any]]


@pytest.fixture(scope="session", autouse=True)
def _migrated_database() -> None:
    DATABASE.parent.mkdir()
    alembic.command.upgrade(alembic.config.Config(ROOT / "alembic.ini"), "heads")
    with sqlite3.connect(DATABASE) as connection:
        connection.executescript(TABLES)


@pytest.fixture(autouse=True)
def query() -> Query:
    """Run a statement on the database, emptied before each test, and return the rows."""

    def run(statement: str, *parameters: object) -> list[Any]:
        with sqlite3.connect(DATABASE) as connection:
            return connection.execute(statement, parameters).fetchall()

    tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'alembic_version'"
    deletions = [f"DELETE FROM {table}" for (table,) in run(tables)]  # noqa: S608 -- our own names
    with sqlite3.connect(DATABASE) as connection:
        connection.executescript(";".join(["BEGIN", *deletions, "COMMIT"]))
    return run


@pytest.fixture(autouse=True)
def _own_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test the tasks that it declared."""
    definitions.must_happen_tasks()
    monkeypatch.setattr(definitions, "_registry", dict(definitions._registry))


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on the event loop that the server uses."""
    return "asyncio"


@pytest.fixture
async def connections() -> AsyncIterator[None]:
    """Close the connections that an `async def` test used: they belong to its event loop."""
    yield
    await database_engine.dispose()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the service, which runs its tasks itself and looks for due ones often."""
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.05)
    with TestClient(service) as client:
        yield client
