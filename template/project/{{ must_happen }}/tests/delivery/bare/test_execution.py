"""One attempt of a task, whatever it does and whatever happens meanwhile."""

import asyncio
import contextlib
import inspect
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from app.delivery import (
    TaskContext,
    execution,
    leases,
    ledger,
    must_happen,
    notifications,
)
from app.delivery.execution import execute
from app.settings import settings
from tests.delivery.bare.recorded import (
    alter,
    claim,
    due,
    effects,
    enqueue,
    get,
    interrupt,
    let_wake,
    record,
)
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


async def execute_and_wait(task_id: UUID) -> tuple[float, float]:
    """Run an attempt; return bounds of the seconds after it until the next is due."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # The database counts these.
    await execute(task_id)
    after = datetime.now(UTC)
    due_at: datetime = (await get(task_id)).wake_at
    return (due_at - after).total_seconds(), (due_at - before).total_seconds()


async def test_failure_is_retried_after_a_growing_delay_until_success() -> None:
    @must_happen(max_attempts=4, retry_delay=100)
    async def fails_twice(task: TaskContext) -> None:
        await have_effect(task)
        if task.attempt < 3:
            raise ConnectionError(f"failure {task.attempt} of {task.id}")

    task_id = await enqueue(fails_twice)
    for attempt, delay in ((1, 100), (2, 200)):
        at_most, at_least = await execute_and_wait(task_id)
        assert at_least >= 0.75 * delay
        assert at_most <= 1.25 * delay
        row = await get(task_id)
        assert (row.status, row.attempts, row.published_at) == ("queued", attempt, None)
        assert row.error == f"ConnectionError: failure {attempt} of {task_id}"
        assert (row.failures, row.interruptions) == (attempt, 0)

        await execute(task_id)  # Too early.
        assert (await get(task_id)).attempts == attempt
        await let_wake(task_id)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts, row.error) == ("succeeded", 3, None)
    assert row.failures == 2
    assert await effects(task_id) == [3]


@must_happen(max_attempts=10_000, retry_delay=100)
async def probe_outage() -> None:
    """Fail for days."""
    raise ConnectionError


@pytest.mark.parametrize(
    ("failures", "delay"),
    [(0, 100), (1, 200), (2, 400), (3, 800), (5, 3200), (6, 3600), (9_998, 3600)],
)
async def test_delay_doubles_with_each_failure_up_to_an_hour(
    failures: int, delay: int
) -> None:
    recorded = [await enqueue(probe_outage) for _ in range(8)]
    # Starts that were no failures do not count.
    await alter(*recorded, failures=failures, attempts=20_000, interruptions=1)

    for task_id in recorded:
        at_most, at_least = await execute_and_wait(task_id)
        assert at_least >= 0.75 * delay
        assert at_most <= 1.25 * delay

    moments = sorted([(await get(task_id)).wake_at for task_id in recorded])
    assert moments[-1] - moments[0] > timedelta(seconds=0.02 * delay)


async def test_delay_starts_anew_after_a_replay() -> None:
    task_id = await enqueue(probe_outage)
    await alter(task_id, failures=9_999)
    await execute(task_id)
    assert (await get(task_id)).status == "failed"

    assert await ledger.replay(task_id)
    at_most, _ = await execute_and_wait(task_id)
    assert at_most <= 125
    row = await get(task_id)
    assert (row.status, row.attempts, row.failures) == ("queued", 2, 1)


async def test_interruptions_do_not_use_up_the_attempts() -> None:
    @must_happen(max_attempts=1)
    async def has_an_effect(task: TaskContext) -> None:
        await have_effect(task)

    task_id = await enqueue(has_an_effect)
    for _ in range(2):
        await interrupt(task_id)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("succeeded", 3)
    assert (row.failures, row.interruptions, row.error) == (0, 2, None)
    assert await effects(task_id) == [3]


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
    assert (row.failures, row.interruptions) == (2, 0)
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


class Escape(BaseException):
    """What `except Exception` does not stop."""


class MuteError(Exception):
    """An error that cannot say what happened."""

    def __str__(self) -> str:
        """Fail at it."""
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "arguments", "expected"),
    [
        (SystemExit, (3,), "RuntimeError: the task called sys.exit(3)"),
        (KeyboardInterrupt, (3,), "KeyboardInterrupt: 3"),
        (GeneratorExit, (3,), "GeneratorExit: 3"),
        (StopIteration, (3,), "RuntimeError: coroutine raised StopIteration"),
        (StopAsyncIteration, (3,), "StopAsyncIteration: 3"),
        (asyncio.CancelledError, (3,), "CancelledError: 3"),
        (Escape, (3,), "Escape: 3"),
        (MuteError, (), "MuteError"),
        (
            BaseExceptionGroup,
            ("several", [asyncio.CancelledError(), SystemExit(5), ValueError(6)]),
            "BaseExceptionGroup: several (3 sub-exceptions)",
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_whatever_a_task_raises_is_a_failed_attempt(
    kind: str, error: type[BaseException], arguments: tuple[object], expected: str
) -> None:
    @must_happen(max_attempts=1)
    async def raises_on_the_loop(task: TaskContext) -> None:
        await have_effect(task)
        raise error(*arguments)

    @must_happen(max_attempts=1)
    def raises_in_a_thread() -> None:
        raise error(*arguments)

    task_id = await enqueue(
        raises_on_the_loop if kind == "async def" else raises_in_a_thread
    )
    attempt = asyncio.create_task(execute(task_id))
    await asyncio.wait({attempt})
    row = await get(task_id)
    assert (row.status, row.failures, row.interruptions) == ("failed", 1, 0)
    assert row.error.startswith(expected)
    assert await effects(task_id) == []
    assert (attempt.cancelled(), attempt.exception()) == (False, None)

    # The event loop is none the worse.
    after = await enqueue(probe)
    await execute(after)
    assert await effects(after) == [1]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_child_of_a_task_does_not_end_the_process(error: BaseException) -> None:
    async def raises() -> None:
        raise error

    @must_happen(max_attempts=1)
    async def waits_for_a_child() -> None:
        asyncio.create_task(asyncio.sleep(0)).cancel()
        async with asyncio.TaskGroup() as children:
            children.create_task(raises())

    @must_happen
    async def leaves_a_child() -> None:
        child = asyncio.create_task(raises())
        await asyncio.wait({child})
        assert isinstance(child.exception(), RuntimeError)

    recorded = [await enqueue(each) for each in (waits_for_a_child, leaves_a_child)]
    for task_id in recorded:
        await asyncio.create_task(execute(task_id))
    statuses = [(await get(task_id)).status for task_id in recorded]
    assert statuses == ["failed", "succeeded"]


@pytest.mark.parametrize("method", ["begin", "commit", "rollback", "close"])
async def test_session_of_a_task_ends_with_it(method: str) -> None:
    @must_happen(max_attempts=1)
    async def ends_its_session(task: TaskContext) -> None:
        await have_effect(task)
        ended = getattr(task.session, method)()
        if inspect.isawaitable(ended):
            await ended

    task_id = await enqueue(ends_its_session)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.failures) == ("failed", 1)
    assert "async with task.session.begin_nested()" in row.error
    assert await effects(task_id) == []


async def test_part_of_a_task_can_be_rolled_back() -> None:
    @must_happen(max_attempts=1)
    async def changes_its_mind(task: TaskContext) -> None:
        await have_effect(task)
        with contextlib.suppress(LookupError):
            async with task.session.begin_nested():
                await have_effect(task)
                raise LookupError

    task_id = await enqueue(changes_its_mind)
    await execute(task_id)
    assert await effects(task_id) == [1]


async def test_task_that_ignores_its_time_limit_fails() -> None:
    @must_happen(max_attempts=1, time_limit=0.05)
    async def goes_on(task: TaskContext) -> None:
        await have_effect(task)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    task_id = await enqueue(goes_on)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.failures) == ("failed", 1)
    assert row.error == "TimeoutError: exceeded its time limit of 0.05 s"
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
        for found in await due():
            await execute(found)
        return datetime.now(UTC) > lease_end + timedelta(seconds=0.2)

    await eventually_async(lease_is_over)
    release.set()
    await running
    assert starts == [1]
    row = await get(task_id)
    assert (row.status, row.attempts) == ("succeeded", 1)


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
        await let_wake(task_id)
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
    [child] = await due()
    assert (await get(child)).key == "child of attempt 2"


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
        await let_wake(task_id)
        await claim(task_id)
        before = await get(task_id)
        release.set()
        await running
    assert await get(task_id) == before


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


async def shut_down(running: asyncio.Task[None]) -> None:
    """Give back what runs, as a worker does that may wait no longer."""
    leases.keeper().give_back()
    await running
    assert running.cancelling() == 0


async def test_shutdown_gives_a_running_task_back_at_no_cost() -> None:
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
        await shut_down(running)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert (row.failures, row.interruptions, row.error) == (0, 0, None)
    assert await due() == [task_id]

    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("succeeded", 2)
    assert (row.failures, row.interruptions, row.error) == (0, 0, None)
    assert await effects(task_id) == [2]


async def test_a_task_with_one_attempt_survives_any_number_of_shutdowns() -> None:
    has_started = asyncio.Event()

    @must_happen(max_attempts=1)
    async def takes_long(task: TaskContext) -> None:
        has_started.set()
        if task.attempt <= 20:
            await asyncio.Event().wait()
        await have_effect(task)

    task_id = await enqueue(takes_long)
    async with asyncio.timeout(WITHIN_SECONDS):
        for _ in range(20):
            running = asyncio.create_task(execute(task_id))
            await has_started.wait()
            has_started.clear()
            await shut_down(running)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("succeeded", 21)
    assert (row.failures, row.interruptions) == (0, 0)
    assert await effects(task_id) == [21]


async def test_shutdown_gives_a_def_task_back() -> None:
    started, release = threading.Event(), threading.Event()

    @must_happen(max_attempts=1)
    def takes_long() -> None:
        started.set()
        release.wait(WITHIN_SECONDS)

    async def has_started() -> bool:
        return started.is_set()

    task_id = await enqueue(takes_long)
    try:
        running = asyncio.create_task(execute(task_id))
        await eventually_async(has_started)
        await shut_down(running)
    finally:
        release.set()
    row = await get(task_id)
    assert (row.status, row.failures, row.interruptions) == ("queued", 0, 0)


async def test_task_that_cancels_itself_has_failed() -> None:
    @must_happen(max_attempts=1)
    async def cancels_itself(task: TaskContext) -> None:
        await have_effect(task)
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await asyncio.sleep(3600)

    task_id = await enqueue(cancels_itself)
    await execute(task_id)
    row = await get(task_id)
    assert (row.status, row.failures, row.error) == ("failed", 1, "CancelledError: ")
    assert await effects(task_id) == []


@pytest.mark.parametrize("error", [ValueError, Escape])
async def test_what_a_task_raises_because_of_a_shutdown_is_no_failure(
    error: type[BaseException],
) -> None:
    started = asyncio.Event()

    @must_happen(max_attempts=1)
    async def cannot_clean_up() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise error("the connection is in use")

    task_id = await enqueue(cannot_clean_up)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await shut_down(running)
    row = await get(task_id)
    assert (row.status, row.failures, row.interruptions) == ("queued", 0, 0)
    assert await due() == [task_id]


@pytest.mark.parametrize("kind", ["the current task", "what it waits for"])
async def test_a_task_that_cancels_itself_has_failed(kind: str) -> None:
    @must_happen(max_attempts=1)
    async def cancels_itself(task: TaskContext) -> None:
        await have_effect(task)
        waited_for = asyncio.create_task(asyncio.Event().wait())
        current = asyncio.current_task()
        assert current is not None
        (current if kind == "the current task" else waited_for).cancel()
        await waited_for

    task_id = await enqueue(cancels_itself)
    await asyncio.wait({asyncio.create_task(execute(task_id))})
    row = await get(task_id)
    assert (row.status, row.failures, row.interruptions) == ("failed", 1, 0)
    assert row.error.startswith("CancelledError")
    assert await effects(task_id) == []


async def test_a_task_that_ends_in_spite_of_a_shutdown_has_succeeded() -> None:
    started = asyncio.Event()

    @must_happen(max_attempts=1)
    async def ends_in_spite(task: TaskContext) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await have_effect(task)

    task_id = await enqueue(ends_in_spite)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await shut_down(running)
    assert (await get(task_id)).status == "succeeded"
    assert await effects(task_id) == [1]


async def test_task_that_cannot_be_given_back_is_left_to_its_lease(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def refuse(*_: object) -> None:
        raise ConnectionError("no database")

    @must_happen
    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ledger, "give_back", refuse)
    task_id = await enqueue(hangs)
    async with asyncio.timeout(WITHIN_SECONDS):
        running = asyncio.create_task(execute(task_id))
        await started.wait()
        await shut_down(running)
    assert (await get(task_id)).status == "running"
    assert "no database" in caplog.text


async def test_suspects_do_not_run_beside_each_other() -> None:
    started: list[UUID] = []
    release = asyncio.Event()

    @must_happen(max_attempts=1)
    async def may_kill(task: TaskContext) -> None:
        started.append(task.id)
        await release.wait()

    harmless, first, other, second = [await enqueue(may_kill) for _ in range(4)]
    suspicious = ledger.SUSPECT_INTERRUPTIONS
    await alter(first, second, interruptions=suspicious, error=ledger.INTERRUPTED)
    await alter(harmless, other, interruptions=suspicious - 1)

    async def have_started() -> bool:
        return set(started) == {harmless, first, other}

    beside = [asyncio.create_task(execute(each)) for each in (harmless, first, other)]
    await eventually_async(have_started)
    async with asyncio.timeout(WITHIN_SECONDS):
        at_most, _ = await execute_and_wait(second)
    assert at_most <= execution.SUSPECT_SECONDS
    row = await get(second)
    assert (row.status, row.attempts) == ("queued", 1)
    assert (row.failures, row.interruptions) == (0, suspicious)
    assert row.error == ledger.INTERRUPTED

    release.set()
    await asyncio.gather(*beside)
    await let_wake(second)
    await execute(second)
    row = await get(second)
    assert (row.status, row.attempts, row.failures) == ("succeeded", 2, 0)
    assert row.interruptions == suspicious


@pytest.mark.parametrize("writes", [False, True])
async def test_a_place_is_free_before_the_end_is_recorded_unless_a_session_commits(
    writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    succeed = ledger.succeed

    async def note_and_succeed(*args: Any) -> bool:
        seen.append("recorded")
        return await succeed(*args)

    @must_happen
    async def may_write(task: TaskContext) -> None:
        if writes:
            await have_effect(task)

    monkeypatch.setattr(ledger, "succeed", note_and_succeed)
    claimed = await claim(await enqueue(may_write))
    await execution.run_attempt(claimed, lambda: seen.append("free"))
    assert seen == (["recorded"] if writes else ["free", "recorded"])


async def test_name_that_this_release_does_not_know_waits_and_fails_visibly() -> None:
    task_id = await record(replace(probe, name="of_the_next_release", max_attempts=2))
    _, at_least = await execute_and_wait(task_id)
    row = await get(task_id)
    assert (row.status, row.attempts, row.failures) == ("queued", 1, 1)
    assert at_least >= 0.75 * execution.UNKNOWN_TASK_SECONDS
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
