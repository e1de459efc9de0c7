"""One attempt of a task, whatever it does and whatever happens meanwhile."""

import asyncio
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.delivery import (
    TaskContext,
    execution,
    ledger,
    must_happen,
    notifications,
)
from app.delivery.execution import execute
from app.settings import settings
from tests.delivery.bare.recorded import alter, effects, enqueue, get, let_wake, record
from tests.delivery.support.probe_tasks import break_promise, have_effect, probe
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


async def test_success_is_recorded_with_its_result() -> None:
    task_id = await enqueue(probe)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts, row.result) == ("succeeded", 1, '"attempt 1"')
    assert row.created_at <= row.started_at <= row.finished_at
    assert row.wake_at is None
    assert await effects(task_id) == [1]


async def test_message_that_repeats_is_harmless() -> None:
    task_id = await enqueue(probe)
    await asyncio.gather(*(execute(task_id) for _ in range(5)))
    assert await effects(task_id) == [1]
    assert (await get(task_id)).attempts == 1


async def test_forged_id_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await execute(uuid4())
    assert not [each for each in caplog.records if each.exc_info]


async def test_def_task_runs_in_a_thread_with_its_arguments() -> None:
    threads: list[threading.Thread] = []

    @must_happen
    def add(task: TaskContext, one: int, *, other: int = 2) -> int:
        threads.append(threading.current_thread())
        return one + other

    task_id = await enqueue(add, 1)
    await execute(task_id)
    assert (await get(task_id)).result == "3"
    assert threads != [threading.current_thread()]


async def execute_and_wait(task_id: UUID) -> tuple[timedelta, timedelta]:
    """Run an attempt and return the bounds of how long after it the next one is due."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # The database counts these.
    await execute(task_id)
    after = datetime.now(UTC)
    due: datetime = (await get(task_id)).wake_at
    return due - after, due - before


async def test_failure_is_retried_after_a_growing_delay_until_success() -> None:
    @must_happen(max_attempts=4, retry_delay=100)
    async def fails_twice(task: TaskContext) -> None:
        await have_effect(task)
        if task.attempt < 3:
            raise ConnectionError(f"failure {task.attempt} of {task.id}")

    task_id = await enqueue(fails_twice)
    for attempt, delay in ((1, 100), (2, 200)):
        shortest, longest = await execute_and_wait(task_id)
        assert shortest <= timedelta(seconds=delay) <= longest
        row = await get(task_id)
        assert (row.status, row.attempts, row.published_at) == ("queued", attempt, None)
        assert row.error == f"ConnectionError: failure {attempt} of {task_id}"

        await execute(task_id)  # Too early.
        assert (await get(task_id)).attempts == attempt
        await let_wake(task_id)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts, row.error) == ("succeeded", 3, None)
    assert await effects(task_id) == [3]


async def test_delay_between_attempts_ends_growing_at_an_hour() -> None:
    @must_happen(max_attempts=1000)
    async def fails_for_days() -> None:
        raise ConnectionError

    task_id = await enqueue(fails_for_days)
    await alter(task_id, attempts=900)
    shortest, longest = await execute_and_wait(task_id)
    assert shortest <= timedelta(hours=1) <= longest


async def test_task_is_kept_with_its_error_when_its_attempts_are_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest-xdist cannot report a log with such a text in it.
    monkeypatch.setattr(execution.logger, "disabled", True)

    @must_happen(max_attempts=2, retry_delay=0)
    async def always_fails(task: TaskContext) -> None:
        await have_effect(task)
        raise ValueError(
            "NUL \x00, a lone surrogate \ud800, and much more" + "!" * 10_000
        )

    task_id = await enqueue(always_fails)
    await execute(task_id)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts, row.wake_at) == ("failed", 2, None)
    assert row.finished_at is not None
    assert row.error.startswith(
        r"ValueError: NUL \x00, a lone surrogate \ud800, and much more!"
    )
    assert len(row.error) <= 2000
    assert await effects(task_id) == []


async def test_async_task_is_stopped_at_its_time_limit() -> None:
    stopped: list[bool] = []

    @must_happen(max_attempts=1, time_limit=0.05)
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)

    task_id = await enqueue(hangs)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.error) == (
        "failed",
        "TimeoutError: exceeded its time limit of 0.05 s",
    )
    assert stopped == [True]


async def test_def_task_is_left_to_itself_at_its_time_limit() -> None:
    release = threading.Event()

    @must_happen(max_attempts=1, time_limit=0.05)
    def hangs() -> None:
        release.wait(WITHIN_SECONDS)

    task_id = await enqueue(hangs)
    try:
        await execute(task_id)
        assert not release.is_set()
    finally:
        release.set()
    row = await get(task_id)
    assert (row.status, row.error) == (
        "failed",
        "TimeoutError: exceeded its time limit of 0.05 s",
    )


async def test_time_limit_in_the_middle_of_a_query_leaves_no_lock_behind() -> None:
    slow = text(
        "WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000)"
        " SELECT count(*) FROM n"
    )

    @must_happen(max_attempts=1, time_limit=0.1)
    async def queries(task: TaskContext) -> None:
        await have_effect(task)
        await task.session.execute(slow)

    task_id = await enqueue(queries)
    await execute(task_id)
    assert (await get(task_id)).status == "failed"
    assert await effects(task_id) == []


async def test_timeout_of_its_own_is_not_taken_for_the_time_limit() -> None:
    @must_happen(max_attempts=1)
    async def times_out() -> None:
        raise TimeoutError("the bank does not answer")

    task_id = await enqueue(times_out)
    await execute(task_id)
    assert (await get(task_id)).error == "TimeoutError: the bank does not answer"


@pytest.mark.parametrize("error", [SystemExit, StopIteration, asyncio.CancelledError])
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_whatever_a_task_raises_is_a_failed_attempt(
    kind: str, error: type[BaseException]
) -> None:
    @must_happen(max_attempts=1)
    async def raises_on_the_loop(task: TaskContext) -> None:
        await have_effect(task)
        raise error(3)

    @must_happen(max_attempts=1)
    def raises_in_a_thread() -> None:
        raise error(3)

    task_id = await enqueue(
        raises_on_the_loop if kind == "async def" else raises_in_a_thread
    )
    await execute(task_id)
    row = await get(task_id)
    assert row.status == "failed"
    assert row.error
    assert await effects(task_id) == []


async def test_exit_is_named_in_the_error() -> None:
    @must_happen(max_attempts=1)
    async def exits() -> None:
        sys.exit("no more money")

    task_id = await enqueue(exits)
    await execute(task_id)
    assert "sys.exit('no more money')" in (await get(task_id)).error


async def test_result_that_does_not_fit_is_a_failed_attempt() -> None:
    @must_happen(max_attempts=1)
    async def returns_a_word(task: TaskContext) -> int:
        await have_effect(task)
        return "many"  # type: ignore[return-value]

    task_id = await enqueue(returns_a_word)
    await execute(task_id)
    assert (await get(task_id)).status == "failed"
    assert await effects(task_id) == []


async def test_commit_that_fails_is_a_failed_attempt() -> None:
    @must_happen(max_attempts=1)
    async def cannot_commit(task: TaskContext) -> None:
        await have_effect(task)
        await break_promise(task.session)

    task_id = await enqueue(cannot_commit)
    await execute(task_id)
    row = await get(task_id)
    assert row.status == "failed"
    assert "IntegrityError" in row.error
    assert await effects(task_id) == []


async def test_what_is_no_task_cannot_be_enqueued_by_a_task() -> None:
    async def no_task() -> None: ...

    @must_happen(max_attempts=1)
    async def enqueues(task: TaskContext) -> None:
        await task.enqueue(no_task)  # type: ignore[arg-type]

    task_id = await enqueue(enqueues)
    await execute(task_id)
    error = (await get(task_id)).error
    assert error.startswith("TypeError: ")
    assert "no_task" in error
    assert "@must_happen" in error


@pytest.mark.parametrize("fails", [False, True])
async def test_children_are_announced_after_the_commit_only(fails: bool) -> None:
    with notifications.woken_by_commits() as wake:

        @must_happen(max_attempts=1)
        async def parent(task: TaskContext) -> None:
            await task.enqueue(probe)
            assert not wake.is_set()
            if fails:
                raise RuntimeError("no child may exist")

        task_id = await enqueue(parent)
        assert wake.is_set()
        wake.clear()
        await execute(task_id)
        assert wake.is_set() is not fails


async def test_task_longer_than_its_lease_runs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Renewed each third of it: also by a machine that stands still for seconds.
    monkeypatch.setattr(settings, "lease_seconds", 5)
    starts: list[int] = []
    release = asyncio.Event()

    @must_happen
    async def takes_long(task: TaskContext) -> None:
        starts.append(task.attempt)
        await release.wait()

    task_id = await enqueue(takes_long)
    running = asyncio.create_task(execute(task_id))

    async def has_started() -> bool:
        return bool(starts)

    await eventually_async(has_started)
    lease_end: datetime = (await get(task_id)).wake_at

    async def lease_is_over() -> bool:
        for message in await ledger.take_due(10, 60):
            await execute(message.id)
        return datetime.now(UTC) > lease_end + timedelta(seconds=0.2)

    await eventually_async(lease_is_over)
    release.set()
    await running
    assert starts == [1]
    row = await get(task_id)
    assert (row.status, row.attempts) == ("succeeded", 1)


async def take_over(task_id: UUID) -> None:
    """Do what the relay does when the lease of an attempt has ended."""
    await let_wake(task_id)
    assert [message.id for message in await ledger.take_due(10, 60)] == [task_id]


@pytest.mark.parametrize("second_ends_first", [True, False])
async def test_attempt_that_was_taken_over_has_no_effect(
    second_ends_first: bool,
) -> None:
    """The first attempt is a zombie: it hangs, loses its lease, and wakes later."""
    started = [asyncio.Event(), asyncio.Event()]
    release = [asyncio.Event(), asyncio.Event()]

    @must_happen
    async def hangs(task: TaskContext) -> int:
        started[task.attempt - 1].set()
        await release[task.attempt - 1].wait()
        await have_effect(task)
        await task.enqueue(probe.using(key=f"child of attempt {task.attempt}"))
        return task.attempt

    task_id = await enqueue(hangs)
    async with asyncio.timeout(WITHIN_SECONDS):
        first = asyncio.create_task(execute(task_id))
        await started[0].wait()
        await take_over(task_id)
        second = asyncio.create_task(execute(task_id))
        await started[1].wait()
        order = (
            [(1, second), (0, first)]
            if second_ends_first
            else [(0, first), (1, second)]
        )
        for number, attempt in order:
            release[number].set()
            await attempt
    row = await get(task_id)
    assert (row.status, row.attempts, row.result) == ("succeeded", 2, "2")
    assert await effects(task_id) == [2]
    [child] = await ledger.take_due(10, 60)
    assert (await get(child.id)).key == "child of attempt 2"


async def test_failure_of_an_attempt_that_was_taken_over_changes_nothing() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @must_happen
    async def fails_late() -> None:
        started.set()
        await release.wait()
        raise ValueError("too late")

    task_id = await enqueue(fails_late)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await take_over(task_id)
        assert await ledger.claim(task_id) is not None
        before = await get(task_id)
        release.set()
        await running
    assert await get(task_id) == before


async def test_end_of_an_attempt_does_not_wait_for_a_renewal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite, the renewal waits for the connection of the attempt's session."""
    monkeypatch.setattr(settings, "lease_seconds", 1)
    renew, renewing = ledger.renew, asyncio.Event()

    async def renew_and_tell(claim: ledger.Claim) -> bool:
        renewing.set()
        return await renew(claim)

    monkeypatch.setattr(ledger, "renew", renew_and_tell)

    @must_happen
    async def writes_and_ends_during_a_renewal(task: TaskContext) -> None:
        await have_effect(task)
        await renewing.wait()

    task_id = await enqueue(writes_and_ends_during_a_renewal)
    await execute(task_id)
    assert await effects(task_id) == [1]
    assert [
        each.getMessage() for each in caplog.records if each.levelname == "WARNING"
    ] == []


async def test_attempt_that_lost_its_lease_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "lease_seconds", 0.1)
    started = asyncio.Event()

    @must_happen
    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    task_id = await enqueue(hangs)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await ledger.cancel(task_id)
        await running
    assert (await get(task_id)).status == "cancelled"


async def test_cancelled_task_that_runs_on_has_no_effect() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @must_happen
    async def ends_late(task: TaskContext) -> None:
        started.set()
        await release.wait()
        await have_effect(task)

    task_id = await enqueue(ends_late)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await ledger.cancel(task_id)
        release.set()
        await running
    assert (await get(task_id)).status == "cancelled"
    assert await effects(task_id) == []


async def test_shutdown_gives_a_running_task_back() -> None:
    started = asyncio.Event()

    @must_happen(retry_delay=3600)
    async def is_interrupted(task: TaskContext) -> None:
        await have_effect(task)
        started.set()
        if task.attempt == 1:
            await asyncio.Event().wait()

    task_id = await enqueue(is_interrupted)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert "shut down" in row.error
    assert [message.id for message in await ledger.take_due(10, 60)] == [task_id]
    await execute(task_id)
    assert await effects(task_id) == [2]


async def test_name_that_this_release_does_not_know_waits_and_fails_visibly() -> None:
    task_id = await record(replace(probe, name="of_the_next_release", max_attempts=2))
    _, longest = await execute_and_wait(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert longest > timedelta(seconds=1)
    await let_wake(task_id)
    await execute(task_id)
    row = await get(task_id)
    assert row.status == "failed"
    assert "of_the_next_release" in row.error


async def test_name_that_becomes_known_runs() -> None:
    task_id = await record(replace(probe, name="of_this_release_too"))
    await execute(task_id)

    @must_happen
    async def of_this_release_too(task: TaskContext) -> None:
        await have_effect(task)

    await let_wake(task_id)
    await execute(task_id)
    assert await effects(task_id) == [2]


async def test_arguments_of_another_release_run() -> None:
    @must_happen
    async def ships(order: int, express: bool = True) -> list[object]:
        return [order, express]

    task_id = await record(ships, '{"order": 1, "colour": "red"}')
    await execute(task_id)
    assert (await get(task_id)).result == "[1,true]"


async def test_arguments_that_no_longer_fit_fail_without_being_shown() -> None:
    @must_happen(max_attempts=1)
    async def charges(card: int) -> None: ...

    task_id = await record(charges, '{"card": "4111 secret"}')
    await execute(task_id)
    row = await get(task_id)
    assert row.status == "failed"
    assert "card" in row.error
    assert "secret" not in row.error


async def test_database_error_does_not_show_what_was_written() -> None:
    @must_happen(max_attempts=1)
    async def writes_nonsense(task: TaskContext, secret: str) -> None:
        await (await task.session.connection()).exec_driver_sql(
            "INSERT INTO nowhere VALUES (?)", (secret,)
        )

    task_id = await enqueue(writes_nonsense, "4111 secret")
    await execute(task_id)
    row = await get(task_id)
    assert "no such table: nowhere" in row.error
    assert "secret" not in row.error
