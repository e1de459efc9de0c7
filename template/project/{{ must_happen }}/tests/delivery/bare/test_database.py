"""SQLite takes one transaction at a time, and the service does without a database."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from sqlalchemy import exc, text

from app import main
from app.database import create_database_engine, database_engine, session_factory
from app.dependencies import Session
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


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.SerializationError,
        asyncpg.DeadlockDetectedError,
        asyncpg.AdminShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError,
        asyncpg.ConnectionFailureError,
    ],
)
async def test_server_that_cannot_serve_is_answered_with_503(
    error: type[asyncpg.PostgresError],
) -> None:
    request = Request({"type": "http"})
    failure = exc.DBAPIError("", None, error("refused"))
    answer = await main.database_error(request, failure)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_connection_that_was_given_up_is_answered_with_503() -> None:
    failure = exc.DBAPIError("", None, Exception(), connection_invalidated=True)
    answer = await main.database_error(Request({"type": "http"}), failure)
    assert answer.status_code == 503


async def test_text_that_cannot_be_stored_is_answered_with_422() -> None:
    failure = exc.DBAPIError("", None, asyncpg.CharacterNotInRepertoireError("0x00"))
    answer = await main.database_error(Request({"type": "http"}), failure)
    assert answer.status_code == 422


async def test_session_is_of_no_use_after_its_end() -> None:
    async with session_factory.begin() as session:
        pass
    with pytest.raises(exc.InvalidRequestError, match="permanently closed"):
        await session.execute(text("SELECT 1"))


def test_websocket_cannot_hold_a_session() -> None:
    service = FastAPI()

    @service.websocket("/")
    async def route(websocket: WebSocket, session: Session) -> None:
        await websocket.accept()

    with (
        pytest.raises(RuntimeError, match="a websocket is no transaction"),
        TestClient(service).websocket_connect("/"),
    ):
        pass


async def test_connections_stay_on_their_event_loop() -> None:
    async def look() -> None:
        async with session_factory() as session:
            await session.execute(text("SELECT 1"))

    await look()
    with pytest.raises(RuntimeError, match="with `async def`"):
        await asyncio.to_thread(asyncio.run, look())
    await look()


async def test_other_errors_of_the_database_are_errors() -> None:
    failure = exc.DBAPIError("", None, asyncpg.UniqueViolationError("twice"))
    with pytest.raises(exc.DBAPIError):
        await main.database_error(Request({"type": "http"}), failure)


def test_read_only_server_is_not_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `SHOW transaction_read_only` returns there.
    monkeypatch.setattr(main, "text", lambda _: text("SELECT 'on'"))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

    monkeypatch.undo()
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (asyncpg.ReadOnlySQLTransactionError("demoted"), None, True),
        (Exception(), asyncpg.InternalClientError("cannot switch"), True),
        (asyncpg.UniqueViolationError("twice"), None, False),
    ],
)
def test_connections_that_are_of_no_use_are_replaced(
    error: Exception, cause: Exception | None, expected: bool
) -> None:
    error.__cause__ = cause
    engine = create_database_engine("postgresql://host/name")
    context = SimpleNamespace(original_exception=error, is_disconnect=False)
    for listener in engine.dialect.dispatch.handle_error:
        listener(context)
    assert context.is_disconnect is expected
