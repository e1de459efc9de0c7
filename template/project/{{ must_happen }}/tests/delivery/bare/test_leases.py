"""One keeper renews every lease on an event loop and stops the attempts that lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
from sqlalchemy import text

from app.database import session_factory
from app.delivery import TaskContext, leases, ledger, must_happen
from app.delivery.execution import execute
from app.settings import settings
from tests.delivery.bare.recorded import (
    alter,
    claim,
    due,
    effects,
    enqueue,
    get,
    let_wake,
)
from tests.delivery.support.probe_tasks import have_effect, probe
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


class Renewals:
    """What the keeper asks of the ledger, which answers when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[set[tuple[UUID, int]]] = []
        self.has_asked = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: Exception | None = None
        self._renew = ledger.renew
        monkeypatch.setattr(ledger, "renew", self.renew)

    async def renew(self, claims: Sequence[ledger.Claim]) -> set[tuple[UUID, int]]:
        """Do what `ledger.renew` does."""
        self.asked.append({(each.id, each.attempt) for each in claims})
        self.has_asked.set()
        await self.may_go_on.wait()
        if self.error:
            raise self.error
        return await self._renew(claims)

    async def next(self) -> set[tuple[UUID, int]]:
        """Wait until the keeper asks again; return for which attempts it does."""
        self.has_asked.clear()
        async with asyncio.timeout(WITHIN_SECONDS):
            await self.has_asked.wait()
        return self.asked[-1]


@pytest.fixture
async def renewals(monkeypatch: pytest.MonkeyPatch) -> Renewals:
    """Let the keeper renew often, and see what it renews."""
    monkeypatch.setattr(settings, "lease_seconds", 0.2)
    return Renewals(monkeypatch)


@pytest.fixture
async def attempts() -> AsyncIterator["Attempts"]:
    """Attempts that run until they are told to end."""
    attempts = Attempts()
    yield attempts
    attempts.may_end.set()
    await attempts.wait()


class Attempts:
    """Attempts of tasks that end when they may."""

    def __init__(self) -> None:
        self.running: dict[tuple[UUID, int], asyncio.Task[None]] = {}
        self.stopped: set[tuple[UUID, int]] = set()
        self.may_end = asyncio.Event()

        @must_happen
        async def runs_on(task: TaskContext) -> None:
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.stopped.add((task.id, task.attempt))
                raise

        self.task = runs_on

    async def start(self, task_id: UUID | None = None) -> tuple[UUID, int]:
        """Start an attempt of this task, or of a new one."""
        task_id = task_id or await enqueue(self.task)
        before = (await get(task_id)).attempts
        running = asyncio.create_task(execute(task_id))

        async def has_started() -> bool:
            return (task_id, before + 1) in leases.keeper()._held

        await eventually_async(has_started)
        self.running[task_id, before + 1] = running
        return task_id, before + 1

    async def wait(self) -> None:
        """Wait until all have ended."""
        if self.running:
            async with asyncio.timeout(WITHIN_SECONDS):
                await asyncio.gather(*self.running.values())


async def test_one_statement_renews_every_lease(
    renewals: Renewals, attempts: Attempts
) -> None:
    started = {await attempts.start() for _ in range(5)}
    await renewals.next()
    for _ in range(2):
        assert await renewals.next() == started

    later = await attempts.start()
    await renewals.next()
    assert await renewals.next() == started | {later}
    assert attempts.stopped == set()

    attempts.may_end.set()
    await attempts.wait()
    statuses = {(await get(task_id)).status for task_id, _ in started}
    assert statuses == {"succeeded"}


async def test_a_lease_is_renewed_in_the_ledger(
    renewals: Renewals, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id, _ = await attempts.start()
    monkeypatch.setattr(settings, "lease_seconds", 600)
    await let_wake(task_id)

    async def is_renewed() -> bool:
        return not await due()

    await eventually_async(is_renewed)
    row = await get(task_id)
    assert (row.status, row.attempts) == ("running", 1)


async def test_an_attempt_that_lost_its_lease_is_stopped_alone(
    renewals: Renewals, attempts: Attempts
) -> None:
    first, lost, last = [await attempts.start() for _ in range(3)]
    await ledger.cancel(lost[0])

    async with asyncio.timeout(WITHIN_SECONDS):
        await attempts.running[lost]
    assert attempts.stopped == {lost}
    assert (await get(lost[0])).status == "cancelled"

    await renewals.next()
    assert await renewals.next() == {first, last}
    attempts.may_end.set()
    await attempts.wait()
    assert [(await get(task_id)).status for task_id, _ in (first, last)] == [
        "succeeded",
        "succeeded",
    ]
    assert attempts.stopped == {lost}


async def test_of_two_attempts_of_a_task_the_last_runs_on(
    renewals: Renewals, attempts: Attempts
) -> None:
    # Meanwhile the keeper does not notice that the lease of the first one has ended.
    first = await attempts.start()
    renewals.may_go_on.clear()
    await renewals.next()
    await let_wake(first[0])
    second = await attempts.start(first[0])
    assert second == (first[0], 2)
    assert attempts.stopped == set()

    renewals.may_go_on.set()
    async with asyncio.timeout(WITHIN_SECONDS):
        await attempts.running[first]
    assert await renewals.next() == {second}
    assert attempts.stopped == {first}

    attempts.may_end.set()
    await attempts.wait()
    row = await get(first[0])
    assert (row.status, row.attempts, row.interruptions) == ("succeeded", 2, 1)


async def test_nothing_is_renewed_after_its_end(
    renewals: Renewals, attempts: Attempts
) -> None:
    ended = await attempts.start()
    renewals.may_go_on.clear()
    await renewals.next()
    attempts.may_end.set()
    await attempts.wait()
    before = await get(ended[0])
    assert before.status == "succeeded"

    # The renewal that was under way finds nothing, and stops nobody.
    attempts.may_end.clear()
    running = await attempts.start()
    renewals.may_go_on.set()
    assert await renewals.next() == {running}
    assert await get(ended[0]) == before
    assert attempts.stopped == set()


async def test_a_task_that_waits_for_its_retry_is_not_renewed(
    renewals: Renewals, attempts: Attempts
) -> None:
    @must_happen(retry_delay=3600)
    async def fails_during_a_renewal() -> None:
        renewals.may_go_on.clear()
        await renewals.next()
        raise ConnectionError

    task_id = await enqueue(fails_during_a_renewal)
    await execute(task_id)
    before = await get(task_id)
    assert before.status == "queued"

    running = await attempts.start()
    renewals.may_go_on.set()
    assert await renewals.next() == {running}
    assert await get(task_id) == before


async def test_nothing_is_asked_while_nothing_runs(renewals: Renewals) -> None:
    task_id = await enqueue(probe)
    await execute(task_id)
    await asyncio.sleep(2 * settings.lease_seconds)
    assert renewals.asked == []


async def test_attempts_run_on_while_leases_cannot_be_renewed(
    renewals: Renewals, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    started = {await attempts.start() for _ in range(2)}
    renewals.error = ConnectionError("no database")
    await renewals.next()
    assert await renewals.next() == started
    assert "cannot renew the leases of 2 tasks" in caplog.text
    assert attempts.stopped == set()

    # It tries on, and stops those that are known to be lost.
    [lost, kept] = started
    await ledger.cancel(lost[0])
    renewals.error = None
    async with asyncio.timeout(WITHIN_SECONDS):
        await attempts.running[lost]
    assert attempts.stopped == {lost}
    await renewals.next()
    assert await renewals.next() == {kept}


async def test_a_session_that_holds_the_only_connection_does_not_stop_the_keeper(
    renewals: Renewals, attempts: Attempts
) -> None:
    started = await attempts.start()
    async with session_factory() as session:
        await session.execute(text("SELECT 1"))
        await renewals.next()
        # Longer than a lease.
        await asyncio.sleep(2 * settings.lease_seconds)
        assert attempts.stopped == set()

    assert await renewals.next() == {started}
    assert await renewals.next() == {started}
    attempts.may_end.set()
    await attempts.wait()
    assert (await get(started[0])).status == "succeeded"


async def test_the_end_of_an_attempt_does_not_wait_for_a_renewal(
    renewals: Renewals, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite, the renewal waits for the connection of the attempt's session."""

    @must_happen
    async def writes_and_ends_during_a_renewal(task: TaskContext) -> None:
        await have_effect(task)
        await renewals.next()

    task_id = await enqueue(writes_and_ends_during_a_renewal)
    await execute(task_id)
    assert await effects(task_id) == [1]
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == []


async def test_a_lost_lease_is_not_taken_for_a_shutdown_nor_for_a_failure(
    renewals: Renewals, caplog: pytest.LogCaptureFixture
) -> None:
    @must_happen
    async def fails_when_stopped(task: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("while it was stopped") from None

    task_id = await enqueue(fails_when_stopped)
    running = asyncio.create_task(execute(task_id))
    renewals.may_go_on.clear()
    await renewals.next()
    await let_wake(task_id)
    again = await claim(task_id)
    before = await get(task_id)
    renewals.may_go_on.set()

    async with asyncio.timeout(WITHIN_SECONDS):
        await running
    assert running.cancelling() == 0
    assert "lost its lease and was stopped" in caplog.text
    row = await get(task_id)
    assert (row.attempts, row.failures, row.status) == (2, 0, "running")
    assert row.error == before.error
    assert await ledger.renew([again]) == {(task_id, 2)}


async def test_whether_a_suspect_runs_is_known() -> None:
    harmless, suspect = await enqueue(probe), await enqueue(probe)
    await alter(suspect, interruptions=ledger.SUSPECT_INTERRUPTIONS)
    keeper = leases.keeper()
    with contextlib.ExitStack() as held:
        held.enter_context(keeper.keep(await claim(harmless)))
        assert not keeper.holds_suspect
        with keeper.keep(await claim(suspect)):
            assert keeper.holds_suspect
        assert not keeper.holds_suspect
