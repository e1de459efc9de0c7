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
from app.delivery import (
    BoundTask,
    Enqueuer,
    Recorded,
    TaskContext,
    must_happen,
    notifications,
)
from app.delivery.definitions import EARLIEST, LATEST, TEN_YEARS
from app.delivery.execution import execute
from app.main import app
from tests.delivery.bare.recorded import due, enqueue, get, sent
from tests.delivery.support.probe_tasks import (
    notes,
    probe,
    probe_elsewhere,
    probe_failing,
    probe_note,
)
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


def test_furthest_moments_can_be_recorded_and_shown(client: TestClient) -> None:
    assert client.portal is not None
    latest = LATEST - timedelta(microseconds=1)
    furthest = probe.using(at=latest, key="\U0001f600" * 200)
    task_id = client.portal.call(enqueue, furthest)
    shown = client.get(f"/tasks/{task_id}").json()
    assert datetime.fromisoformat(shown["wake_at"]) == latest

    task_id = client.portal.call(enqueue, probe.using(delay=TEN_YEARS))
    shown = client.get(f"/tasks/{task_id}").json()
    delay = datetime.fromisoformat(shown["wake_at"]) - datetime.now(UTC)
    assert delay > 0.9 * TEN_YEARS
    # What has passed means now.
    task_id = client.portal.call(enqueue, probe.using(at=EARLIEST))
    assert finish(client, str(task_id))["status"] == "succeeded"


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


async def enqueue_many(*calls: BoundTask) -> list[Recorded]:
    """Enqueue tasks together, as a script does."""
    async with session_factory.begin() as session:
        return await Enqueuer(session).enqueue_many(calls)


async def test_many_are_recorded_in_their_order() -> None:
    recorded = await enqueue_many(
        probe.bind(2.5),
        probe_elsewhere.bind(),
        probe_failing.using(priority=9).bind(failures=7),
        probe.bind(seconds=1),
    )

    rows = [await get(each.id) for each in recorded]
    assert [each.created for each in recorded] == [True] * 4
    assert [(row.name, row.arguments) for row in rows] == [
        ("probe", '{"seconds":2.5,"until":null}'),
        ("probe_elsewhere", "{}"),
        ("probe_failing", '{"failures":7}'),
        ("probe", '{"seconds":1.0,"until":null}'),
    ]
    assert [(row.queue, row.priority, row.max_attempts) for row in rows] == [
        ("default", 0, 20),
        ("probes", 3, 5),
        ("default", 9, 3),
        ("default", 0, 20),
    ]
    assert {(row.status, row.attempts, row.failures) for row in rows} == {
        ("queued", 0, 0)
    }
    # Ids are in the order of the calls, too.
    assert sorted(each.id for each in recorded) == [each.id for each in recorded]


async def test_many_keys_are_used_once() -> None:
    known = await enqueue(probe.using(key="known"))

    recorded = await enqueue_many(
        probe.using(key="twice").bind(1),
        probe.using(key="known").bind(2),
        probe.bind(3),
        probe.using(key="twice").bind(4),
        probe_elsewhere.using(key="known").bind(),
        probe.bind(5),
    )

    assert [each.created for each in recorded] == [True, False, True, False, True, True]
    assert recorded[1].id == known
    assert recorded[3].id == recorded[0].id
    assert len({each.id for each in recorded}) == 5
    assert (await get(recorded[0].id)).arguments == '{"seconds":1.0,"until":null}'
    assert (await get(known)).arguments == '{"seconds":0.0,"until":null}'
    assert len(await due()) == 5
    assert await enqueue_many(probe.using(key="known").bind()) == [(known, False)]


async def test_each_of_many_has_its_own_time() -> None:
    moment = datetime(2100, 1, 1, 12, tzinfo=UTC)
    now, delayed, at = await enqueue_many(
        probe.bind(),
        probe.using(delay=timedelta(hours=1, milliseconds=500)).bind(),
        probe.using(at=moment.astimezone(tz=None)).bind(),
    )

    assert await due() == [now.id]
    row = await get(delayed.id)
    assert row.wake_at - row.created_at == timedelta(hours=1, milliseconds=500)
    assert (await get(at.id)).wake_at == moment


async def test_arguments_are_validated_when_they_are_bound() -> None:
    with pytest.raises(ValidationError, match="seconds"):
        probe.bind("long")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument: 'failures'"):
        probe_failing.bind()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="too many positional arguments"):
        probe_elsewhere.bind(1)  # type: ignore[call-arg]


async def test_none_of_many_is_none(query: Query) -> None:
    assert await enqueue_many() == []
    assert query("SELECT * FROM tasks") == []


async def test_thousands_are_recorded_by_one_statement(query: Query) -> None:
    calls = (probe.using(key=f"row {number}").bind(number) for number in range(10_000))
    with sent() as statements:
        recorded = await enqueue_many(*calls)

    assert len([each for each in statements if not each.startswith("BEGIN")]) == 1
    assert all(each.created for each in recorded)
    assert query("SELECT count(*) FROM tasks") == [(10_000,)]
    for number in (0, 4_321, 9_999):
        row = await get(recorded[number].id)
        assert (row.key, row.arguments) == (
            f"row {number}",
            f'{{"seconds":{number}.0,"until":null}}',
        )


async def test_many_known_keys_are_found_by_few_statements() -> None:
    calls = [probe.using(key=f"row {number}").bind() for number in range(500)]
    first = await enqueue_many(*calls)
    with sent() as statements:
        second = await enqueue_many(*calls)

    assert [each.id for each in second] == [each.id for each in first]
    assert not any(each.created for each in second)
    assert len(statements) < 10


async def test_many_are_rolled_back_together(query: Query) -> None:
    async with session_factory() as session:
        await Enqueuer(session).enqueue_many(probe.bind() for _ in range(3))
        await session.rollback()
    assert query("SELECT * FROM tasks") == []


async def test_many_wake_who_waits_when_they_are_committed() -> None:
    with notifications.woken_by_commits() as wake:
        async with session_factory.begin() as session:
            await Enqueuer(session).enqueue_many([probe.bind(), probe.bind()])
            assert not wake.is_set()
        assert wake.is_set()

        wake.clear()
        await enqueue_many()
        assert not wake.is_set()


@pytest.mark.parametrize("fails", [False, True])
async def test_many_children_exist_if_their_parent_succeeds(fails: bool) -> None:
    @must_happen(max_attempts=1)
    async def parent(task: TaskContext) -> list[UUID]:
        calls = [probe.bind(number) for number in range(3)]
        recorded = await task.enqueue_many(calls)
        if fails:
            raise RuntimeError("no child may exist")
        return [each.id for each in recorded]

    await execute(await enqueue(parent))

    children = [await get(task_id) for task_id in await due()]
    expected = [] if fails else [0.0, 1.0, 2.0]
    assert [probe.load_arguments(each.arguments)["seconds"] for each in children] == (
        expected
    )
