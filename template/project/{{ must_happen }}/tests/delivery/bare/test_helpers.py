"""What users' tests can do with their tasks."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.database import session_factory
from app.delivery import Enqueuer, TaskContext, must_happen
from app.main import app
from app.settings import settings
from tests.delivery.bare.recorded import enqueue
from tests.delivery.helpers import RecordedTasks, enqueued, let_pass, run_due
from tests.delivery.isolation import WORKERS_RUN_TASKS
from tests.delivery.support.probe_tasks import break_promise, notes, probe, probe_parent


@must_happen(retry_delay=100)
async def probe_arguments(order: UUID, tags: frozenset[str] = frozenset()) -> str:
    """Show what it got."""
    notes.append(f"{order} {sorted(tags)}")
    return "seen"


async def test_what_is_enqueued_has_the_values_that_the_task_gets() -> None:
    order = uuid4()
    task = probe_arguments.using(key="k", delay=timedelta(hours=1), priority=7)
    await enqueue(task, order, tags=frozenset({"a"}))
    await enqueue(probe_arguments, order)

    first, second = await enqueued(probe_arguments)

    assert first.arguments == {"order": order, "tags": frozenset({"a"})}
    assert (first.key, first.delay, first.priority) == ("k", timedelta(hours=1), 7)
    assert (second.key, second.delay, second.queue) == (None, timedelta(), "default")
    second.assert_called_with(order=order)
    with pytest.raises(AssertionError, match="was enqueued with"):
        second.assert_called_with(uuid4())
    assert await enqueued(probe) == []


async def test_everything_that_is_due_runs_in_the_loop_of_the_test() -> None:
    loops = []

    @must_happen
    async def look_around() -> None:
        loops.append(asyncio.get_running_loop())

    await enqueue(look_around)
    await enqueue(probe_parent, children=3)

    assert await run_due() == 5
    assert loops == [asyncio.get_running_loop()]
    assert [each.status for each in await enqueued(probe)] == ["succeeded"] * 3
    assert await run_due() == 0


async def test_what_a_task_raised_is_raised() -> None:
    raised = LookupError("no such card")

    @must_happen(retry_delay=100)
    async def charge() -> None:
        raise raised

    await enqueue(charge)
    with pytest.raises(LookupError, match="no such card") as seen:
        await run_due()
    assert seen.value is raised

    [failed] = await enqueued(charge)
    assert (failed.status, failed.attempts) == ("queued", 1)


async def test_a_commit_that_fails_is_raised() -> None:
    @must_happen(max_attempts=1)
    async def breaks_its_promise(task: TaskContext) -> None:
        await break_promise(task.session)

    await enqueue(breaks_its_promise)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        await run_due()


async def test_failures_can_be_left_in_the_ledger() -> None:
    @must_happen(max_attempts=2, retry_delay=100)
    async def charge() -> None:
        raise LookupError("no such card")

    await enqueue(charge)
    assert await run_due(raising=False) == 1
    assert await run_due(raising=False) == 0

    await let_pass(timedelta(seconds=125))
    assert await run_due(raising=False) == 1
    [failed] = await enqueued(charge)
    assert (failed.status, failed.error) == ("failed", "LookupError: no such card")


async def test_delayed_task_is_due_in_its_time() -> None:
    await enqueue(probe_arguments.using(delay=timedelta(hours=1)), uuid4())
    await let_pass(timedelta(minutes=59))
    assert await run_due() == 0
    await let_pass(timedelta(minutes=1))
    assert await run_due() == 1


async def test_what_is_not_committed_was_not_enqueued() -> None:
    async with session_factory() as session:
        await Enqueuer(session).enqueue(probe_arguments, uuid4())
    assert await enqueued(probe_arguments) == []


def test_a_client_runs_nothing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the fixture `client` of the users' tests does, and the one of these does not.
    monkeypatch.setattr(settings, *WORKERS_RUN_TASKS)
    with TestClient(app) as client:
        tasks = RecordedTasks(client)
        client.post("/probes", json={"arguments": {"seconds": 0}})
        assert notes == ["after the response"]
        assert [each.status for each in tasks.enqueued(probe)] == ["queued"]

        assert tasks.run_due() == 1
        [ended] = tasks.enqueued(probe)
        assert (ended.status, ended.result) == ("succeeded", '"attempt 1"')
