"""A task exists if and only if the transaction that enqueued it is committed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app.database import session_factory
from app.delivery import Enqueuer, notifications
from app.main import app
from tests.delivery.bare.recorded import enqueue
from tests.delivery.support.probe_tasks import notes, probe, probe_note
from tests.delivery.support.waiting import eventually

Query = Callable[..., list[Any]]


def post_probe(client: TestClient, **options: str) -> Any:
    """Enqueue a probe in a request, and return the answer."""
    answer = client.post("/probes", json={"options": options})
    assert answer.status_code == 202
    return answer.json()


def post_parent(client: TestClient, failures: int) -> str:
    """Enqueue a task of three children in a request, and return its id."""
    arguments = {"children": 3, "failures": failures}
    parent = {"name": "probe_parent", "arguments": arguments}
    return str(client.post("/probes", json=parent).json()["id"])


def finish(client: TestClient, task_id: str) -> Any:
    """Wait until a task has ended and return what is shown of it."""
    return eventually(
        lambda: (
            (shown := client.get(f"/tasks/{task_id}").json())["finished_at"] and shown
        )
    )


def test_task_of_a_request_runs_once(client: TestClient, query: Query) -> None:
    task_id = post_probe(client)["id"]
    recorded = UUID(task_id).hex
    assert query("SELECT task_id FROM probe_requests") == [(recorded,)]

    shown = finish(client, task_id)
    assert (shown["status"], shown["attempts"], shown["result"]) == (
        "succeeded",
        1,
        "attempt 1",
    )
    assert query("SELECT task_id, attempt FROM probe_effects") == [(recorded, 1)]
    assert notes == ["after the response"]


def test_task_of_a_dependency_runs_too(client: TestClient) -> None:
    for task_id in client.post("/probes/dependency").json():
        assert finish(client, task_id)["status"] == "succeeded"


def test_task_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 3600)
    with TestClient(app) as client:
        # The first may be found by the first look at the ledger, the second by the
        # nudge only.
        for _ in range(2):
            shown = finish(client, post_probe(client)["id"])
            assert shown["status"] == "succeeded"


def test_what_is_rolled_back_never_existed(client: TestClient, query: Query) -> None:
    assert client.post("/probes/refused").status_code == 418
    assert query("SELECT * FROM tasks") == query("SELECT * FROM probe_requests") == []
    assert notes == []


def test_commit_that_fails_is_seen_by_the_client(query: Query) -> None:
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/probes/uncommittable").status_code == 500
        assert (
            query("SELECT * FROM tasks") == query("SELECT * FROM probe_requests") == []
        )
        assert notes == []
        # The connection is in order again.
        assert client.post("/probes", json={}).status_code == 202


def test_children_exist_if_their_parent_succeeds(client: TestClient) -> None:
    parent = finish(client, post_parent(client, failures=1))
    assert (parent["status"], parent["attempts"]) == ("succeeded", 2)
    assert len(parent["result"]) == 3
    for child in parent["result"]:
        assert finish(client, child)["status"] == "succeeded"


def test_children_do_not_exist_if_their_parent_fails(
    client: TestClient, query: Query
) -> None:
    parent = finish(client, post_parent(client, failures=2))
    assert parent["status"] == "failed"
    assert query("SELECT count(*) FROM tasks") == [(1,)]


def test_children_start_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 3600)
    with TestClient(app) as client:
        parent = finish(client, post_parent(client, failures=0))
        for child in parent["result"]:
            assert finish(client, child)["status"] == "succeeded"


def test_task_of_a_script_runs(client: TestClient) -> None:
    assert client.portal is not None
    task_id = client.portal.call(enqueue, probe)
    assert finish(client, str(task_id))["status"] == "succeeded"


def test_key_is_used_once(client: TestClient, query: Query) -> None:
    def post(_: int) -> Any:
        return post_probe(client, key="the same")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(16)))
    assert len({answer["id"] for answer in answers}) == 1
    assert sorted(answer["created"] for answer in answers) == [False] * 15 + [True]
    finish(client, answers[0]["id"])

    assert post_probe(client, key="the same")["id"] == answers[0]["id"]
    assert query("SELECT count(*) FROM tasks") == [(1,)]
    assert post_probe(client, key="another")["created"]


def test_delayed_task_waits(client: TestClient) -> None:
    assert client.portal is not None
    delay = timedelta(seconds=0.3)
    shown = finish(client, str(client.portal.call(enqueue, probe.using(delay=delay))))
    waited = datetime.fromisoformat(shown["started_at"]) - datetime.fromisoformat(
        shown["created_at"]
    )
    assert waited >= delay


def test_moment_is_kept_whatever_its_time_zone(client: TestClient) -> None:
    assert client.portal is not None
    moment = datetime(2100, 1, 1, 12, tzinfo=UTC)
    given = moment.astimezone(tz=None)
    task_id = client.portal.call(enqueue, probe.using(at=given))
    shown = client.get(f"/tasks/{task_id}").json()
    assert shown["status"] == "queued"
    assert datetime.fromisoformat(shown["wake_at"]) == moment


async def test_what_cannot_be_a_task_is_refused(query: Query) -> None:
    async def no_task() -> None: ...

    async with session_factory.begin() as session:
        tasks = Enqueuer(session)
        with pytest.raises(TypeError, match="no_task is not a task: declare it with @"):
            await tasks.enqueue(no_task)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="too many positional arguments"):
            await tasks.enqueue(probe, 1, None, 2)  # type: ignore[call-overload]
        with pytest.raises(ValidationError, match="seconds"):
            await tasks.enqueue(probe, "long")  # type: ignore[call-overload]
        with pytest.raises(RuntimeError, match="probe_note is nice to have"):
            await tasks.enqueue(probe_note, "lost")
    assert query("SELECT * FROM tasks") == []


async def test_options_are_recorded(query: Query) -> None:
    task_id: UUID = await enqueue(
        probe.using(queue="probes", priority=7, key="k"), seconds=1.5
    )

    [row] = query(
        "SELECT id, name, arguments, queue, priority, key, max_attempts FROM tasks"
    )
    assert row == (
        task_id.hex,
        "probe",
        '{"seconds":1.5,"until":null}',
        "probes",
        7,
        "k",
        20,
    )
