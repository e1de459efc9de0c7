"""Give each test the service in this process."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import app
from tests.delivery.support.reaper import Reaper


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on the event loop that the server uses."""
    return "asyncio"


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the service: the tasks of a request have run when it is answered."""
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="session")
def reaper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reaper]:
    """Kills at the end of this run what the run has started."""
    reaper = Reaper(tmp_path_factory.mktemp("scratch"))
    yield reaper
    reaper.close()
