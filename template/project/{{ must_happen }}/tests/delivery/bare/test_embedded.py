"""The API process runs its tasks itself without a broker, and still loses none."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.delivery import TaskContext, embedded, ledger, must_happen, notifications
from tests.delivery.bare.recorded import enqueue, get
from tests.delivery.support.api import Api
from tests.delivery.support.probe_tasks import create_statements, probe
from tests.delivery.support.project import Project
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.waiting import (
    WITHIN_SECONDS,
    eventually,
    eventually_async,
)


@pytest.fixture
def api(tmp_path: Path, reaper: Reaper) -> Iterator[Api]:
    """The API with probes as a process of its own."""
    folder = Project(tmp_path / "project").folder
    rows(folder, *create_statements("sqlite://"))
    api = Api("app.probe_api:app", folder, reaper, LEASE_SECONDS="1")
    api.start()
    yield api
    api.close()


def rows(folder: Path, *statements: str) -> list[Any]:
    """Run statements on the database of the process; return the rows of the last."""
    with contextlib.closing(sqlite3.connect(folder / "app.db")) as database:
        for statement in statements:
            found = database.execute(statement).fetchall()
    return found


def test_nothing_is_lost_by_a_kill_straight_after_the_responses(
    api: Api, tmp_path: Path
) -> None:
    folder, release = tmp_path / "project", tmp_path / "may go on"
    recorded = set()
    # More than run at a time, and none ends before the process dies.
    for _ in range(2 * embedded.CONCURRENCY):
        answer = api.http.post("/probes", json={"arguments": {"until": str(release)}})
        assert answer.status_code == 202
        recorded.add(UUID(answer.json()["id"]).hex)
    api.stop()
    before = rows(folder, "SELECT status FROM tasks")
    assert len(before) == len(recorded)
    assert {status for (status,) in before} <= {"queued", "running"}

    release.touch()
    api.start()
    unfinished = "SELECT name, status, error FROM tasks WHERE finished_at IS NULL"
    eventually(lambda: not rows(folder, unfinished))
    assert set(rows(folder, "SELECT status FROM tasks")) == {("succeeded",)}
    effects = rows(folder, "SELECT task_id FROM probe_effects")
    assert sorted(task_id for (task_id,) in effects) == sorted(recorded)


def test_shutdown_lets_running_tasks_end(api: Api, tmp_path: Path) -> None:
    folder, release = tmp_path / "project", tmp_path / "may go on"
    api.http.post("/probes", json={"arguments": {"until": str(release)}})
    eventually(lambda: rows(folder, "SELECT 1 FROM tasks WHERE status = 'running'"))

    api.ask_to_end()
    release.touch()
    api.wait_until_ended()

    ended = rows(folder, "SELECT status, attempts FROM tasks")
    assert ended == [("succeeded", 1)]


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


async def test_shutdown_is_not_missed_for_a_nudge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` forgets one before Python 3.12 (python/cpython#86296)."""
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
