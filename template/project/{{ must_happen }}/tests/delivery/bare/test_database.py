"""SQLite takes one transaction at a time, and the service does without a database."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.database import database_engine, session_factory
from tests.delivery.isolation import DATABASE
from tests.delivery.support.waiting import eventually


async def test_transactions_wait_their_turn() -> None:
    ended = []

    async def take_a_while(number: int) -> None:
        async with session_factory.begin() as session:
            await session.execute(text("SELECT 1"))
            await asyncio.sleep(0.02)
        ended.append(number)

    await asyncio.gather(*map(take_a_while, range(10)))
    assert ended == list(range(10))


@pytest.fixture
def take_away(client: TestClient) -> Callable[[], None]:
    """Move the database away, and close the connections that have it open."""

    def move() -> None:
        DATABASE.parent.rename(DATABASE.parent.with_name("away"))
        assert client.portal is not None
        client.portal.call(database_engine.dispose)
        eventually(lambda: client.get("/readyz").status_code == 503)

    return move


def give_back() -> None:
    """Move the database back."""
    DATABASE.parent.with_name("away").rename(DATABASE.parent)


def test_database_that_is_away_and_comes_back(
    client: TestClient, take_away: Callable[[], None], query: Callable[..., list[Any]]
) -> None:
    task_id = client.post("/probes", json={}).json()["id"]

    take_away()
    try:
        for method, path in (
            ("GET", "/readyz"),
            ("POST", "/probes"),
            ("GET", f"/tasks/{task_id}"),
            ("GET", "/metrics"),
        ):
            answer = client.request(method, path, json={} if method == "POST" else None)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json() == {"detail": "database unavailable"}
        assert client.get("/livez").status_code == 200
    finally:
        give_back()

    assert client.get("/readyz").status_code == 200
    assert query("SELECT task_id FROM probe_requests") == [(UUID(task_id).hex,)]
    assert query("SELECT count(*) FROM tasks") == [(1,)]
    later = client.post("/probes", json={}).json()["id"]
    eventually(lambda: client.get(f"/tasks/{later}").json()["status"] == "succeeded")
