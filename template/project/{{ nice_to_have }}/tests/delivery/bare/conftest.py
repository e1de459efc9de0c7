"""Give each test the service in this process."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import app


@pytest.fixture
def anyio_backend() -> str:
    """Run `async def` tests on the event loop that the server uses."""
    return "asyncio"


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the service."""
    with TestClient(app) as client:
        yield client
