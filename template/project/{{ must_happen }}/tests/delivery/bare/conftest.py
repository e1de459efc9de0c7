"""Give the tests the service with probes, which runs its tasks itself."""

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.delivery import definitions, metrics, notifications
from app.main import app
from tests.delivery.isolation import DATABASE
from tests.delivery.support import probe_api  # noqa: F401 -- adds its routes
from tests.delivery.support.probe_tasks import create_statements, notes
from tests.delivery.support.waiting import WITHIN_SECONDS


@pytest.fixture(autouse=True)
def _own_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the tasks of these tests only: those of the service may have any name."""
    own = {
        name: task
        for name, task in definitions.must_happen_tasks().items()
        if task.function.__module__.startswith("tests.delivery.")
    }
    monkeypatch.setattr(definitions, "_registry", own)


@pytest.fixture(autouse=True)
def _probe_tables(_database_as_migrated: None) -> None:
    notes.clear()
    with contextlib.closing(sqlite3.connect(DATABASE)) as database:
        database.executescript(";".join(create_statements("sqlite://")))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of the service, which runs its tasks itself and looks often."""
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.05)
    # A request gets today's figures on a slow machine, too.
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", WITHIN_SECONDS)
    with TestClient(app) as client:
        yield client
