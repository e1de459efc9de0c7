"""Give each test the service in this process, on an empty database of this run."""

import contextlib
import inspect
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import alembic.command
import alembic.config
import pytest
from fastapi.testclient import TestClient

from app.database import database_engine
from app.delivery import definitions
from app.main import app
from app.settings import settings
from tests.delivery.helpers import RecordedTasks
from tests.delivery.isolation import DATABASE, WORKERS_RUN_TASKS
from tests.delivery.support.processes import ROOT

pytest_plugins = ["tests.delivery.support.fixtures"]

Query = Callable[..., list[Any]]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Close the connections of `async def` tests in the event loop that has them."""
    if collector.istestfunction(obj, name) and inspect.iscoroutinefunction(obj):
        pytest.mark.usefixtures("_connections")(obj)


@pytest.fixture
async def _connections() -> AsyncIterator[None]:
    yield
    await database_engine.dispose()


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on the event loop that the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def _migrated() -> Iterator[sqlite3.Connection]:
    DATABASE.parent.mkdir()
    alembic.command.upgrade(alembic.config.Config(ROOT / "alembic.ini"), "heads")
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        with contextlib.closing(sqlite3.connect(DATABASE)) as database:
            database.backup(memory)
        yield memory


@pytest.fixture(autouse=True)
def _database_as_migrated(_migrated: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(DATABASE)) as database:
        _migrated.backup(database)


@pytest.fixture
def query() -> Query:
    """Run a statement on the database and return the rows."""

    def run(statement: str, *parameters: object) -> list[Any]:
        with contextlib.closing(sqlite3.connect(DATABASE)) as database, database:
            return database.execute(statement, parameters).fetchall()

    return run


@pytest.fixture(autouse=True)
def _own_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test the tasks that it declared."""
    definitions.must_happen_tasks()
    monkeypatch.setattr(definitions, "_registry", dict(definitions._registry))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the service, which only records must-happen tasks.

    The fixture `tasks` runs them. Nice-to-have tasks have run when it has the response.
    """
    # As in production, where other processes run them.
    monkeypatch.setattr(settings, *WORKERS_RUN_TASKS)
    with TestClient(app) as client:
        yield client


@pytest.fixture
def tasks(client: TestClient) -> RecordedTasks:
    """The must-happen tasks that requests have enqueued: to look at and to run."""
    return RecordedTasks(client)
