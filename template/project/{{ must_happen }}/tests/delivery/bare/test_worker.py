"""Tasks run straight from the ledger, as many at a time as may, and none is lost."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.delivery import (
    TaskContext,
    due,
    ledger,
    must_happen,
    notifications,
    retention,
    worker,
)
from app.delivery.table import from_now
from app.settings import settings
from tests.delivery.bare.recorded import alter, effects, enqueue, get, interrupt
from tests.delivery.support.api import Api
from tests.delivery.support.probe_tasks import create_statements, probe, probe_elsewhere
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
    for _ in range(2 * worker.CONCURRENCY):
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
async def running_worker(
    consumed: Collection[str] | None = None,
) -> AsyncIterator[asyncio.Event]:
    """Run a worker and yield what wakes it; at the end shut it down."""
    wake = asyncio.Event()
    running = asyncio.create_task(worker.run(wake, consumed))
    try:
        yield wake
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=WITHIN_SECONDS)
        assert running.done()


@pytest.fixture
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.01)


class Places:
    """Tasks that note their start, and end when they may."""

    def __init__(self) -> None:
        self.started: list[UUID] = []
        self.running = self.most = 0
        self._may_end = asyncio.Semaphore(0)

        @must_happen(retry_delay=0)
        async def takes_a_place(task: TaskContext) -> None:
            self.started.append(task.id)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self._may_end.acquire()
            finally:
                self.running -= 1

        self.task = takes_a_place

    def let_end(self, number: int) -> None:
        """Let so many end, of those that run or will."""
        for _ in range(number):
            self._may_end.release()

    async def wait(self, number: int) -> None:
        """Wait until so many have started."""

        async def have_started() -> bool:
            return len(self.started) >= number

        await eventually_async(have_started)


@pytest.fixture
async def places() -> Places:
    """Tasks that take places."""
    return Places()


async def waiting(places: Places, priority: int = 0, *, seconds: float) -> UUID:
    """Return a task that takes a place and has been due for so long."""
    task_id = await enqueue(places.task.using(priority=priority))
    await alter(task_id, wake_at=from_now(-seconds))
    return task_id


async def have_succeeded(task_ids: Iterable[UUID]) -> bool:
    """Return whether all of them have."""
    return {(await get(task_id)).status for task_id in task_ids} == {"succeeded"}


async def wait_for_success(*task_ids: UUID) -> None:
    """Wait until all of them have succeeded."""
    await eventually_async(lambda: have_succeeded(task_ids))


async def test_shutdown_gives_back_what_does_not_end(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(settings, "drain_seconds", 0.05)
    recorded = [await enqueue(places.task) for _ in range(3)]
    async with running_worker():
        await places.wait(3)
        places.let_end(1)
    rows = [await get(task_id) for task_id in recorded]
    assert sorted(row.status for row in rows) == ["queued", "queued", "succeeded"]
    assert {row.attempts for row in rows} == {1}
    assert {(row.failures, row.interruptions, row.error) for row in rows} == {
        (0, 0, None)
    }

    # Another worker starts them at once.
    places.let_end(2)
    async with running_worker():
        await wait_for_success(*recorded)


async def test_second_signal_gives_back_at_once_what_runs(places: Places) -> None:
    task_id = await enqueue(places.task)
    running = asyncio.create_task(worker.run(asyncio.Event()))
    await places.wait(1)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.05)
    await asyncio.wait({running}, timeout=WITHIN_SECONDS)
    assert running.cancelled()
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert (row.failures, row.interruptions, row.error) == (0, 0, None)


async def test_shutdown_lets_tasks_end_and_starts_no_other(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(worker, "CONCURRENCY", 1)
    first, second = [await enqueue(places.task) for _ in range(2)]
    async with running_worker():
        await places.wait(1)
        asyncio.get_running_loop().call_soon(places.let_end, 1)
    assert places.started == [first]
    assert [(await get(each)).status for each in (first, second)] == [
        "succeeded",
        "queued",
    ]


async def test_shutdown_gives_back_what_is_being_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, claimed, may_go_on = ledger.claim, asyncio.Event(), asyncio.Event()

    async def slow(task_ids: Iterable[UUID]) -> list[ledger.Claim]:
        claims = await claim(task_ids)
        claimed.set()
        await may_go_on.wait()
        return claims

    monkeypatch.setattr(ledger, "claim", slow)
    task_id = await enqueue(probe)
    async with running_worker():
        await claimed.wait()
        asyncio.get_running_loop().call_soon(may_go_on.set)
    row = await get(task_id)
    assert (row.status, row.attempts, row.interruptions) == ("queued", 1, 0)


async def test_shutdown_is_not_missed_for_a_nudge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` forgets one before Python 3.12 (python/cpython#86296)."""
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 3600)
    for _ in range(5):
        async with running_worker() as wake:
            task_id = await enqueue(probe)
            wake.set()
            await wait_for_success(task_id)
            # The worker looks for more, and then waits.
            await wait_for_success(task_id)
            wake.set()


async def test_what_comes_while_all_places_are_taken_is_found_by_a_nudge(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 3600)
    monkeypatch.setattr(worker, "CONCURRENCY", 1)
    await enqueue(places.task)
    async with running_worker() as wake:
        await places.wait(1)
        second = await enqueue(places.task)
        wake.set()
        await asyncio.sleep(0)
        places.let_end(2)
        await wait_for_success(second)


@pytest.mark.usefixtures("_looks_often")
async def test_no_more_than_so_many_run_at_a_time(places: Places) -> None:
    recorded = [await enqueue(places.task) for _ in range(worker.CONCURRENCY + 4)]

    async def count(status: str) -> int:
        return sum([(await get(each)).status == status for each in recorded])

    async with running_worker():
        await places.wait(worker.CONCURRENCY)
        # Nothing is claimed that cannot run.
        assert await count("queued") == 4
        places.let_end(1)
        await places.wait(worker.CONCURRENCY + 1)
        assert await count("queued") == 3
        places.let_end(len(recorded))
        await wait_for_success(*recorded)
    assert places.most == worker.CONCURRENCY


@pytest.mark.usefixtures("_looks_often")
async def test_places_are_free_before_ends_are_recorded(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(worker, "CONCURRENCY", 3)
    succeed, may_be_recorded = ledger.succeed, asyncio.Event()

    async def slow(*args: Any) -> bool:
        await may_be_recorded.wait()
        return await succeed(*args)

    monkeypatch.setattr(ledger, "succeed", slow)
    recorded = [await enqueue(places.task) for _ in range(12)]
    async with running_worker():
        await places.wait(3)
        places.let_end(3)
        await places.wait(6)
        # As many ends may wait as tasks may run; then no further one is claimed.
        places.let_end(9)
        await asyncio.sleep(0.1)
        statuses = [(await get(task_id)).status for task_id in recorded]
        assert statuses.count("running") == 6
        assert len(places.started) == 6

        may_be_recorded.set()
        await wait_for_success(*recorded)
    assert places.most == 3


@pytest.mark.usefixtures("_looks_often")
async def test_what_is_more_urgent_comes_first(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setattr(worker, "CONCURRENCY", 1)
    first, *backlog = [await waiting(places, seconds=60 - each) for each in range(4)]
    urgent = await waiting(places, 5, seconds=1)
    async with running_worker():
        await places.wait(1)
        # It overtakes what the worker has found before.
        most_urgent = await waiting(places, 9, seconds=0)
        interrupted = await enqueue(places.task)
        await interrupt(interrupted)
        await asyncio.sleep(2 * notifications.INTERVAL_SECONDS)
        places.let_end(7)
        await wait_for_success(*backlog)
    assert places.started == [urgent, interrupted, most_urgent, first, *backlog]


@pytest.mark.usefixtures("_looks_often")
async def test_what_was_found_is_not_forgotten_for_another_look(
    monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    # As on PostgreSQL, and without a second complete look.
    monkeypatch.setattr(due, "IS_SQLITE", False)
    monkeypatch.setattr(due, "COMPLETE_SHARE", 1e-9)
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(worker, "CONCURRENCY", 1)
    monkeypatch.setattr(worker, "LOOK_AHEAD", 3)
    backlog = [await waiting(places, seconds=3600 - 100 * each) for each in range(8)]
    places.let_end(len(backlog))
    async with running_worker():
        await places.wait(3)
        await asyncio.sleep(0.3)
    assert places.started == backlog


@pytest.mark.usefixtures("_looks_often")
async def test_each_worker_runs_the_tasks_of_its_queues(places: Places) -> None:
    @must_happen(queue="invoices")
    async def invoice() -> None: ...

    default, elsewhere, unknown = [
        await enqueue(task) for task in (probe, probe_elsewhere, probe)
    ]
    invoiced = await enqueue(invoice)
    await alter(unknown, queue="of_another_release")

    async with running_worker(["probes", "invoices"]):
        await wait_for_success(elsewhere, invoiced)
    assert [(await get(each)).attempts for each in (default, unknown)] == [0, 0]

    later = await enqueue(probe_elsewhere)
    async with running_worker(["default"]):
        await wait_for_success(default, unknown)
    assert (await get(later)).attempts == 0
    async with running_worker():
        await wait_for_success(later)


@pytest.mark.usefixtures("_looks_often")
async def test_two_workers_at_one_ledger_run_each_task_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "CONCURRENCY", 5)
    recorded = [await enqueue(probe) for _ in range(60)]
    async with running_worker(), running_worker():
        await wait_for_success(*recorded)
    assert {(await get(each)).attempts for each in recorded} == {1}
    for task_id in recorded:
        assert await effects(task_id) == [1]


@pytest.mark.usefixtures("_looks_often")
async def test_what_a_broker_was_handed_runs_without_it() -> None:
    handed, delayed = [await enqueue(probe) for _ in range(2)]
    await alter(handed, published_at=from_now(), wake_at=from_now(3600))
    await alter(delayed, wake_at=from_now(3600))
    async with running_worker():
        await wait_for_success(handed)
    row = await get(delayed)
    assert (row.status, row.attempts) == ("queued", 0)


@pytest.mark.usefixtures("_looks_often")
async def test_failures_are_retried_and_do_not_stop_the_worker() -> None:
    class Escape(BaseException):
        """What `except Exception` does not stop."""

    @must_happen(retry_delay=0)
    async def fails_first(task: TaskContext) -> None:
        if task.attempt == 1:
            raise Escape

    recorded = [await enqueue(fails_first) for _ in range(5)]
    async with running_worker():
        await wait_for_success(*recorded)
    assert {(await get(each)).failures for each in recorded} == {1}


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize("what", ["look", "claim", "take over"])
async def test_worker_goes_on_after_an_outage(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outages = [ConnectionError("no database")] * 3
    owner, name = {
        "look": (due.DueTasks, "look"),
        "claim": (ledger, "claim"),
        "take over": (worker, "take_over"),
    }[what]
    true = getattr(owner, name)

    async def after_outages(*args: Any, **kwargs: Any) -> Any:
        if outages:
            raise outages.pop()
        return await true(*args, **kwargs)

    monkeypatch.setattr(owner, name, after_outages)
    task_id = await enqueue(probe)
    async with running_worker():
        await wait_for_success(task_id)
    assert caplog.text.count("no task can be taken, trying on") == 1
    assert caplog.text.count("no task can be taken: over after") == 1


@pytest.mark.usefixtures("_looks_often")
async def test_what_is_old_is_deleted_as_long_as_the_worker_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "INTERVAL_SECONDS", 0.01)
    pruned: list[int] = []

    async def prune() -> int:
        pruned.append(1)
        return 0

    async def was_pruned() -> bool:
        return len(pruned) >= 2

    monkeypatch.setattr(retention, "prune", prune)
    async with running_worker():
        await eventually_async(was_pruned)
    number = len(pruned)
    await asyncio.sleep(0.05)
    assert len(pruned) == number
