"""Give each test the service in this process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import app
from tests.delivery.support.reaper import Reaper


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on the event loop that the server uses."""
    return "asyncio"


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    """Kills at the end of this run what the run has started."""
    reaper = Reaper(Path(tempfile.mkdtemp(prefix="processes-")))
    yield reaper
    reaper.close()


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the service; when it has a response, the tasks have run."""
    with TestClient(app) as client:
        yield client
