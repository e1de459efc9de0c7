"""The statements that decide which task runs, when, and how often."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.delivery import ledger
from app.delivery.table import from_now
from app.settings import settings
from tests.delivery.bare.recorded import (
    alter,
    claim,
    due,
    enqueue,
    get,
    interrupt,
    let_wake,
)
from tests.delivery.support.probe_tasks import probe, probe_hopeless


async def test_those_of_several_tasks_that_are_due_are_claimed() -> None:
    first, later, second, left = [await enqueue(probe, each) for each in range(4)]
    await alter(later, wake_at=from_now(3600))

    claims = await ledger.claim([second, later, uuid4(), first])

    assert [each.id for each in claims] == [second, first]
    assert [each.arguments for each in claims] == [
        '{"seconds":2.0,"until":null}',
        '{"seconds":0.0,"until":null}',
    ]
    assert [each.attempt for each in claims] == [1, 1]
    statuses = [(await get(each)).status for each in (first, later, second, left)]
    assert statuses == ["running", "queued", "running", "queued"]
    assert await ledger.claim([]) == []


async def test_claim_is_given_once() -> None:
    task_id = await enqueue(probe)
    claims = await asyncio.gather(*(ledger.claim([task_id]) for _ in range(5)))
    [claimed] = [claim for each in claims for claim in each]
    assert (claimed.id, claimed.name, claimed.attempt) == (task_id, "probe", 1)
    assert (claimed.failures, claimed.interruptions) == (0, 0)
    assert claimed.max_attempts == probe.max_attempts


async def test_delayed_task_is_claimed_in_its_time() -> None:
    task_id = await enqueue(probe.using(delay=timedelta(hours=1)))
    assert await ledger.claim([task_id]) == []
    await let_wake(task_id)
    assert (await claim(task_id)).attempt == 1


async def test_what_a_broker_was_handed_may_be_claimed_at_any_time() -> None:
    task_id = await enqueue(probe)
    await alter(task_id, published_at=from_now(), wake_at=from_now(3600))
    assert (await claim(task_id)).attempt == 1
    # Its message may repeat, and then finds it running.
    assert await ledger.claim([task_id]) == []


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
async def test_what_has_ended_is_not_claimed(status: str) -> None:
    task_id = await enqueue(probe)
    await alter(task_id, status=status, wake_at=None, finished_at=from_now())
    assert await ledger.claim([task_id]) == []


async def test_lease_ends_where_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "lease_seconds", 600)
    task_id = await enqueue(probe)
    claimed = await claim(task_id)
    row = await get(task_id)
    assert row.wake_at - row.started_at == timedelta(seconds=600)

    await let_wake(task_id)
    assert await ledger.renew([claimed]) == {(task_id, 1)}
    assert (await get(task_id)).wake_at - datetime.now(UTC) > timedelta(seconds=400)
    assert await due() == []


async def test_of_several_leases_those_that_are_held_are_renewed() -> None:
    recorded = [await enqueue(probe) for _ in range(5)]
    held, lost, ended, returned, cancelled = [await claim(each) for each in recorded]
    await let_wake(*recorded)
    again = await claim(lost.id)
    assert await ledger.succeed(ended, "null", None)
    await ledger.give_back(returned)
    assert await ledger.cancel(cancelled.id)
    before = [await get(each.id) for each in (ended, returned, cancelled)]

    kept = await ledger.renew([lost, held, ended, returned, cancelled, again])

    assert kept == {(held.id, 1), (again.id, 2)}
    assert [await get(each.id) for each in (ended, returned, cancelled)] == before
    assert await ledger.renew([]) == set()


async def test_task_whose_lease_ended_is_claimed_and_its_attempt_is_over() -> None:
    task_id = await enqueue(probe)
    first = await claim(task_id)
    await let_wake(task_id)
    assert await due() == [task_id]

    second = await claim(task_id)
    assert (second.attempt, second.failures, second.interruptions) == (2, 0, 1)
    row = await get(task_id)
    assert (row.status, row.attempts, row.interruptions) == ("running", 2, 1)
    assert "interrupted" in row.error

    assert await ledger.renew([first]) == set()
    assert not await ledger.succeed(first, "1", None)
    assert await ledger.fail(first, "too late", 0) is None
    await ledger.give_back(first)
    assert await get(task_id) == row

    assert await ledger.succeed(second, "2", None)
    row = await get(task_id)
    assert (row.result, row.error, row.failures) == ("2", None, 0)


async def test_interruptions_are_limited_whatever_may_still_fail() -> None:
    task_id, neighbour = await enqueue(probe_hopeless, ""), await enqueue(probe)
    for _ in range(ledger.MAX_INTERRUPTIONS):
        await interrupt(task_id)

    claims = await ledger.claim([task_id, neighbour])

    assert [each.id for each in claims] == [neighbour]
    row = await get(task_id)
    assert (row.status, row.wake_at) == ("failed", None)
    assert (row.interruptions, row.failures) == (ledger.MAX_INTERRUPTIONS, 0)
    assert row.attempts == ledger.MAX_INTERRUPTIONS
    assert "interrupted" in row.error
    assert row.finished_at > row.started_at
    assert await ledger.claim([task_id]) == []


async def test_failures_are_limited_whatever_was_interrupted() -> None:
    task_id = await enqueue(probe)
    await alter(task_id, max_attempts=2)
    for _ in range(ledger.MAX_INTERRUPTIONS - 1):
        await interrupt(task_id)

    assert await ledger.fail(await claim(task_id), "first", 0) == "queued"
    row = await get(task_id)
    assert (row.failures, row.error) == (1, "first")
    last = await claim(task_id)
    assert (last.failures, last.interruptions) == (1, ledger.MAX_INTERRUPTIONS - 1)
    assert await ledger.fail(last, "second", 0) == "failed"

    row = await get(task_id)
    assert (row.status, row.failures, row.error) == ("failed", 2, "second")
    assert row.attempts == ledger.MAX_INTERRUPTIONS + 1
    assert row.wake_at is None
    assert row.finished_at >= row.started_at


async def test_task_that_is_given_back_is_due_and_nothing_is_counted() -> None:
    now, later = await enqueue(probe), await enqueue(probe)
    await ledger.give_back(await claim(now))
    await ledger.give_back(await claim(later), 3600)

    assert await due() == [now]
    for task_id in (now, later):
        row = await get(task_id)
        assert (row.status, row.attempts) == ("queued", 1)
        assert (row.failures, row.interruptions, row.error) == (0, 0, None)
    wait = (await get(later)).wake_at - datetime.now(UTC)
    assert timedelta(seconds=1800) < wait <= timedelta(seconds=3600)


async def test_task_that_is_given_back_late_is_left_as_it_is() -> None:
    recorded = [await enqueue(probe) for _ in range(4)]
    retried, finished, running, cancelled = claims = [
        await claim(task_id) for task_id in recorded
    ]
    assert await ledger.fail(retried, "for now", 100) == "queued"
    assert await ledger.succeed(finished, "null", None)
    await let_wake(running.id)
    await claim(running.id)
    assert await ledger.cancel(cancelled.id)

    before = [await get(task_id) for task_id in recorded]
    for each in claims:
        await ledger.give_back(each)
    assert [await get(task_id) for task_id in recorded] == before


async def test_replay_grants_further_attempts_and_keeps_old_attempts_out() -> None:
    task_id = await enqueue(probe_hopeless, "")
    for _ in range(ledger.MAX_INTERRUPTIONS - 1):
        await interrupt(task_id)
    first = await claim(task_id)
    assert not await ledger.replay(task_id)
    assert await ledger.fail(first, "on purpose", 0) == "failed"

    assert await ledger.replay(task_id)
    row = await get(task_id)
    assert (row.status, row.failures, row.interruptions) == ("queued", 0, 0)
    assert (row.attempts, row.max_attempts) == (first.attempt, 1)
    assert row.finished_at is None
    assert await due() == [task_id]

    second = await claim(task_id)
    assert second.attempt == first.attempt + 1
    assert (second.failures, second.interruptions) == (0, 0)
    assert await ledger.renew([first]) == set()
    assert not await ledger.replay(task_id)
    assert await ledger.succeed(second, "null", None)
    assert not await ledger.replay(task_id)
    assert not await ledger.cancel(task_id)


async def test_cancelled_task_can_be_replayed_beside_its_old_attempt() -> None:
    task_id = await enqueue(probe)
    old = await claim(task_id)
    assert await ledger.cancel(task_id)
    assert await ledger.replay(task_id)

    assert not await ledger.succeed(old, '"old"', None)
    new = await claim(task_id)
    assert not await ledger.succeed(old, '"old"', None)
    assert await ledger.succeed(new, '"new"', None)
    assert (await get(task_id)).result == '"new"'


async def test_moments_have_a_time_zone_and_tell_the_time() -> None:
    row = await get(await enqueue(probe))
    assert row.created_at.tzinfo is not None
    assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=1)
