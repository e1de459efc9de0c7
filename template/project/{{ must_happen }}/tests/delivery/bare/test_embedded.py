"""The API process runs its tasks itself when no broker is configured, and still loses none."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.delivery import TaskContext, embedded, ledger, must_happen, notifications
from tests.delivery.bare.probes import TABLES, probe
from tests.delivery.bare.processes import Service
from tests.delivery.bare.recorded import enqueue, get
from tests.delivery.bare.waiting import WITHIN_SECONDS, eventually, eventually_async


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the process runs and has its database."""
    folder = tmp_path_factory.mktemp("embedded")
    with sqlite3.connect(folder / "app.db") as connection:
        connection.executescript(TABLES)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """The probes' service as a process of its own."""
    service = Service(folder, "tests.delivery.bare.probes:service", LEASE_SECONDS="1")
    service.start()
    yield service
    service.close()


def rows(folder: Path, statement: str) -> list[Any]:
    """Query the database of the process."""
    with sqlite3.connect(folder / "app.db") as connection:
        return connection.execute(statement).fetchall()


def test_nothing_is_lost_by_a_kill_straight_after_the_responses(
    service: Service, folder: Path
) -> None:
    recorded = set()
    # More than run at a time; some have just begun when the process dies, some have
    # not.
    for _ in range(2 * embedded.CONCURRENCY):
        answer = service.http.post("/probes", params={"seconds": 0.2})
        assert answer.status_code == 202
        recorded.add(answer.json()["id"])
    service.kill()
    before = rows(folder, "SELECT status FROM tasks")
    assert len(before) == len(recorded)
    assert before.count(("succeeded",)) < len(recorded)

    service.start()
    unfinished = "SELECT name, status, error FROM tasks WHERE finished_at IS NULL"
    eventually(lambda: not rows(folder, unfinished))
    assert set(rows(folder, "SELECT status FROM tasks")) == {("succeeded",)}
    effects = [
        task_id for (task_id,) in rows(folder, "SELECT task_id FROM probe_effects")
    ]
    assert sorted(effects) == sorted(recorded)


def test_shutdown_lets_running_tasks_end(service: Service, folder: Path) -> None:
    """It is the last test of this process."""
    service.http.post("/probes", params={"seconds": 0.7})
    eventually(lambda: rows(folder, "SELECT 1 FROM tasks WHERE status = 'running'"))
    service.terminate()
    newest = "SELECT status, attempts FROM tasks ORDER BY id DESC LIMIT 1"
    assert rows(folder, newest) == [("succeeded", 1)]


@contextlib.asynccontextmanager
async def running_worker() -> AsyncIterator[asyncio.Event]:
    """Run the embedded worker and yield what wakes it; at the end shut it down."""
    wake = asyncio.Event()
    running = asyncio.create_task(embedded.run(wake))
    try:
        yield wake
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=WITHIN_SECONDS)
        assert running.done()


@pytest.mark.anyio
@pytest.mark.usefixtures("connections")
async def test_shutdown_gives_back_what_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "DRAIN_SECONDS", 0.05)
    started = asyncio.Event()

    @must_happen
    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    task_id = await enqueue(hangs)
    async with running_worker():
        await started.wait()
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert "shut down" in row.error


@pytest.mark.anyio
@pytest.mark.usefixtures("connections")
async def test_shutdown_runs_what_is_being_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim_due, claimed, may_go_on = ledger.claim_due, asyncio.Event(), asyncio.Event()

    async def slow(limit: int) -> list[ledger.Claim]:
        claims = await claim_due(limit)
        claimed.set()
        await may_go_on.wait()
        return claims

    monkeypatch.setattr(ledger, "claim_due", slow)
    task_id = await enqueue(probe)
    async with running_worker():
        await claimed.wait()
        asyncio.get_running_loop().call_soon(may_go_on.set)
    assert (await get(task_id)).status == "succeeded"


@pytest.mark.anyio
@pytest.mark.usefixtures("connections")
async def test_shutdown_is_not_missed_for_a_nudge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Python 3.12 `asyncio.wait_for` forgets a cancellation (python/cpython#86296)."""
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 3600)
    for _ in range(5):
        async with running_worker() as wake:
            task_id = await enqueue(probe)
            wake.set()

            async def has_ended(task_id: UUID = task_id) -> bool:
                return (await get(task_id)).finished_at is not None

            await eventually_async(has_ended)
            # The worker looks for more, and then waits.
            await eventually_async(has_ended)
            wake.set()


@pytest.mark.anyio
@pytest.mark.usefixtures("connections")
async def test_no_more_than_so_many_run_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.01)
    running: list[int] = [0]
    release = asyncio.Semaphore(0)

    @must_happen
    async def is_counted(task: TaskContext) -> None:
        running.append(running[-1] + 1)
        await release.acquire()
        running.append(running[-1] - 1)

    recorded = [await enqueue(is_counted) for _ in range(embedded.CONCURRENCY + 4)]

    async def is_full() -> bool:
        return running[-1] == embedded.CONCURRENCY

    async def started() -> int:
        return sum([(await get(task_id)).attempts for task_id in recorded])

    async def another_has_started() -> bool:
        return await started() == embedded.CONCURRENCY + 1

    async def all_have_ended() -> bool:
        return {(await get(task_id)).status for task_id in recorded} == {"succeeded"}

    async with running_worker():
        await eventually_async(is_full)
        assert await started() == embedded.CONCURRENCY
        release.release()
        await eventually_async(another_has_started)
        for _ in recorded:
            release.release()
        await eventually_async(all_have_ended)
    assert max(running) == embedded.CONCURRENCY
