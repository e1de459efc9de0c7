"""What is due is found in its order, and a look begins where the last one ended."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.delivery import due as finding
from app.delivery import must_happen
from app.delivery.due import DueTasks
from app.delivery.statements import query
from app.delivery.table import from_now
from tests.delivery.bare.recorded import alter, due, enqueue, get, interrupt
from tests.delivery.support.probe_tasks import probe, probe_elsewhere


async def waiting(seconds: float, priority: int = 0) -> UUID:
    """Return a task that has been due for so long."""
    task_id = await enqueue(probe.using(priority=priority))
    await alter(task_id, wake_at=from_now(-seconds))
    return task_id


async def test_urgent_tasks_are_found_first_and_interrupted_ones_before() -> None:
    backlog = [await waiting(3600 - number) for number in range(3)]
    by_priority = [await waiting(1, priority) for priority in range(1, 10)]
    interrupted = await enqueue(probe)
    await interrupt(interrupted)

    expected = [interrupted, *reversed(by_priority), *backlog]
    assert await due() == expected
    for limit in (1, 2, 11, 13):
        assert await DueTasks().look(limit) == expected[:limit]


async def test_what_waits_longest_is_found_first() -> None:
    newest, oldest, middle = [await waiting(seconds) for seconds in (1, 3, 2)]
    assert await due() == [oldest, middle, newest]


async def test_what_is_not_due_is_not_found() -> None:
    delayed = await enqueue(probe.using(delay=timedelta(hours=1)))
    running = await enqueue(probe)
    await alter(running, status="running", wake_at=from_now(30))
    for status in ("succeeded", "failed", "cancelled"):
        ended = await waiting(1)
        await alter(ended, status=status, wake_at=None, finished_at=from_now())
    assert await due() == []
    assert (await get(delayed)).status == "queued"


async def test_a_look_changes_nothing() -> None:
    task_id = await waiting(1)
    before = await get(task_id)
    assert await due() == await due() == [task_id]
    assert await get(task_id) == before


async def test_each_queue_is_looked_at_by_who_consumes_it() -> None:
    @must_happen(queue="invoices")
    async def invoice() -> None: ...

    default, elsewhere = await waiting(1), await enqueue(probe_elsewhere)
    invoiced, unknown = await enqueue(invoice), await waiting(2)
    await alter(unknown, queue="of_another_release")

    async def found(*queues: str) -> set[UUID]:
        return set(await DueTasks(queues).look(10))

    assert await found("probes") == {elsewhere}
    assert await found("probes", "invoices") == {elsewhere, invoiced}
    # What only another release declares has no worker of its own here.
    assert await found("default") == {default, unknown}
    assert set(await due()) == {default, elsewhere, invoiced, unknown}


async def test_what_others_are_at_too_comes_in_no_order_but_the_urgent_first() -> None:
    backlog = [await waiting(100 - number) for number in range(30)]
    urgent = [await waiting(1, priority=9) for _ in range(2)]

    found = await DueTasks().look(100, in_order=False)

    assert set(found[:2]) == set(urgent)
    assert sorted(found[2:]) == sorted(backlog)
    assert found[2:] != backlog


async def test_every_look_is_complete_on_sqlite() -> None:
    finder = DueTasks()
    recent = await waiting(0)
    assert await finder.look(10) == [recent]
    old = await waiting(3600)
    assert await finder.look(10) == [old, recent]


@pytest.fixture
def _partial_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look as on PostgreSQL, completely only once."""
    monkeypatch.setattr(finding, "IS_SQLITE", False)
    monkeypatch.setattr(finding, "COMPLETE_SHARE", 1e-9)
    monkeypatch.setattr(finding, "COMPLETE_SECONDS", 1e9)
    monkeypatch.setattr(finding.DueTasks, "_is_warm", True)
    # A machine that stands still for a while changes nothing.
    monkeypatch.setattr(finding, "LOOK_BACK", 50.0)


@pytest.mark.usefixtures("_partial_looks")
async def test_a_look_begins_a_little_before_the_end_of_the_last_one() -> None:
    finder = DueTasks()
    old = await waiting(3600)
    assert await finder.look(10) == [old]

    unseen, committed_late, recent = [await waiting(each) for each in (3600, 25, 0)]
    assert await finder.look(10) == [committed_late, recent]
    assert unseen in await due()


@pytest.mark.usefixtures("_partial_looks")
async def test_a_look_that_found_enough_is_continued_at_its_end() -> None:
    finder = DueTasks()
    backlog = [await waiting(3600 - 100 * number) for number in range(10)]
    assert await finder.look(4) == backlog[:4]
    # The last one is found again, and those that came at the same time as it.
    assert await finder.look(4) == backlog[3:7]
    assert await finder.look(4) == backlog[6:]
    assert await finder.look(4) == backlog[9:]


@pytest.mark.usefixtures("_partial_looks")
async def test_lanes_that_were_not_reached_are_not_passed_over() -> None:
    finder = DueTasks()
    urgent = [await waiting(3600 - 100 * number, 5) for number in range(3)]
    backlog = [await waiting(7200, priority) for priority in (4, 0)]
    assert await finder.look(3) == urgent
    assert await finder.look(10) == [urgent[-1], *backlog]
    assert await finder.look(10) == []


@pytest.mark.usefixtures("_partial_looks")
async def test_a_look_that_waits_for_its_connection_passes_nothing_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "LOOK_BACK", 0.2)
    finder = DueTasks()
    await finder.look(10)
    task_id = await waiting(0)
    await asyncio.sleep(0.5)

    async def slow(*args: Any, **parameters: Any) -> Any:
        await asyncio.sleep(1)
        return await query(*args, **parameters)

    with monkeypatch.context() as patch:
        patch.setattr(finding, "query", slow)
        found = await finder.look(10)
    assert task_id in found + await finder.look(10)


@pytest.mark.usefixtures("_partial_looks")
async def test_what_a_look_passes_over_is_found_by_a_complete_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finder = DueTasks()
    await finder.look(10)
    task_id = await waiting(3600)
    assert await finder.look(10) == []

    # The time that a complete look may take has passed at once.
    monkeypatch.setattr(finding, "COMPLETE_SHARE", 1e9)
    finder = DueTasks()
    await finder.look(10)
    assert await finder.look(10) == [task_id]


@pytest.mark.usefixtures("_partial_looks")
async def test_interrupted_tasks_have_a_lane_of_their_own() -> None:
    finder = DueTasks()
    await finder.look(10)
    task_id = await enqueue(probe)
    await interrupt(task_id)
    assert await finder.look(10) == [task_id]
