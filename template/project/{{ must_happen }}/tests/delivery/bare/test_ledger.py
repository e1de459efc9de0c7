"""The statements that decide which task runs, when, and how often."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.delivery import ledger
from app.delivery.statements import query
from app.delivery.table import from_now, task_table
from app.settings import settings
from tests.delivery.bare.recorded import alter, enqueue, get, let_wake
from tests.delivery.support.probe_tasks import probe, probe_hopeless


async def claim(task_id: UUID) -> ledger.Claim:
    """Start an attempt, which must be possible."""
    claimed = await ledger.claim(task_id)
    assert claimed is not None
    return claimed


async def publish(*task_ids: UUID) -> None:
    """Do what a relay does with due tasks."""
    taken = await ledger.take_due(1000, 3600)
    assert {message.id for message in taken} >= set(task_ids)


async def test_two_relays_take_different_tasks() -> None:
    recorded = {await enqueue(probe) for _ in range(20)}
    shares = await asyncio.gather(*(ledger.take_due(6, 60) for _ in range(4)))
    taken = [message.id for share in shares for message in share]
    assert len(taken) == len(set(taken)) == 20
    assert set(taken) == recorded
    assert max(map(len, shares)) == 6


async def test_urgent_tasks_are_taken_first() -> None:
    for priority in (0, 9, 4):
        await enqueue(probe.using(priority=priority, queue="probes"))
    taken = await ledger.take_due(10, 60)
    assert [message.priority for message in taken] == [9, 4, 0]
    assert {(message.name, message.queue) for message in taken} == {("probe", "probes")}


async def test_interrupted_tasks_are_taken_before_a_backlog() -> None:
    interrupted = [await enqueue(probe) for _ in range(2)]
    for task_id in interrupted:
        await claim(task_id)
    backlog = [await enqueue(probe) for _ in range(5)]
    await alter(*backlog, wake_at=from_now(-3600))
    await let_wake(*interrupted)
    assert {message.id for message in await ledger.take_due(3, 60)} > set(interrupted)
    assert len(await ledger.take_due(10, 60)) == 4


async def test_due_tasks_are_claimed_at_once_interrupted_ones_first() -> None:
    last, interrupted = await enqueue(probe_hopeless, ""), await enqueue(probe)
    for task_id in (last, interrupted):
        await claim(task_id)
    waiting = await enqueue(probe)
    await alter(waiting, wake_at=from_now(-3600))
    later = await enqueue(probe.using(delay=timedelta(hours=1)))
    await let_wake(last, interrupted)

    claims = await ledger.claim_due(2) + await ledger.claim_due(10)
    assert [(each.id, each.attempt) for each in claims] == [
        (interrupted, 2),
        (waiting, 1),
    ]
    assert [(await get(each)).status for each in (last, later)] == ["failed", "queued"]

    for each in claims:
        row = await get(each.id)
        assert row.wake_at - row.started_at == timedelta(seconds=settings.lease_seconds)
        assert await ledger.succeed(each, "null", None)
    assert await ledger.claim_due(10) == []


async def test_delayed_task_is_taken_in_its_time() -> None:
    task_id = await enqueue(probe.using(delay=timedelta(hours=1)))
    assert await ledger.take_due(10, 60) == []
    assert await ledger.claim(task_id) is None
    await let_wake(task_id)
    assert [message.id for message in await ledger.take_due(10, 60)] == [task_id]


async def test_task_that_nobody_claims_is_taken_again_in_its_time() -> None:
    task_id = await enqueue(probe)
    assert len(await ledger.take_due(10, 1000)) == 1
    assert await ledger.take_due(10, 60) == []
    assert await ledger.count_published() == {"default": 1}
    left = (await get(task_id)).wake_at - datetime.now(UTC)
    assert timedelta(seconds=500) < left <= timedelta(seconds=1000)
    await let_wake(task_id)
    assert len(await ledger.take_due(10, 60)) == 1


async def test_task_that_could_not_be_published_is_due_at_once() -> None:
    kept, returned = [await enqueue(probe) for _ in range(2)]
    await publish(kept, returned)
    await ledger.give_back([returned])
    assert [message.id for message in await ledger.take_due(10, 60)] == [returned]


async def test_claim_is_given_once_whatever_is_published() -> None:
    task_id = await enqueue(probe)
    await publish(task_id)
    claims = await asyncio.gather(*(ledger.claim(task_id) for _ in range(5)))
    [claimed] = [each for each in claims if each is not None]
    assert (claimed.id, claimed.name, claimed.attempt) == (task_id, "probe", 1)
    assert await ledger.claim(uuid4()) is None


async def test_lease_ends_where_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "lease_seconds", 600)
    task_id = await enqueue(probe)
    claimed = await claim(task_id)
    row = await get(task_id)
    assert row.wake_at - row.started_at == timedelta(seconds=600)

    await let_wake(task_id)
    assert await ledger.renew(claimed)
    assert (await get(task_id)).wake_at - datetime.now(UTC) > timedelta(seconds=400)
    assert await ledger.take_due(10, 60) == []


async def test_task_whose_lease_ended_is_taken_and_its_attempt_is_over() -> None:
    task_id = await enqueue(probe)
    first = await claim(task_id)
    await let_wake(task_id)
    assert [message.id for message in await ledger.take_due(10, 60)] == [task_id]
    row = await get(task_id)
    assert (row.status, row.attempts) == ("queued", 1)
    assert "interrupted" in row.error
    assert not await ledger.renew(first)

    second = await claim(task_id)
    assert second.attempt == 2
    for zombie_write in (ledger.renew(first), ledger.succeed(first, "1", None)):
        assert not await zombie_write
    assert await ledger.fail(first, "too late", 0) is None
    assert await ledger.renew(second)
    assert await ledger.succeed(second, "2", None)
    assert (await get(task_id)).result == "2"


async def test_task_whose_last_lease_ended_has_failed() -> None:
    task_id = await enqueue(probe_hopeless, "")
    await claim(task_id)
    await let_wake(task_id)
    assert await ledger.take_due(10, 60) == []
    row = await get(task_id)
    assert (row.status, row.wake_at) == ("failed", None)
    assert "interrupted" in row.error
    assert row.finished_at is not None


async def test_task_that_is_given_back_late_is_left_as_it_is() -> None:
    retried, finished, running, cancelled = [await enqueue(probe) for _ in range(4)]
    await publish(retried, finished, running, cancelled)
    assert await ledger.fail(await claim(retried), "for now", 100) == "queued"
    assert await ledger.succeed(await claim(finished), "null", None)
    await claim(running)
    assert await ledger.cancel(cancelled)
    everything = (retried, finished, running, cancelled)
    before = [await get(task_id) for task_id in everything]
    await ledger.give_back(everything)
    assert [await get(task_id) for task_id in everything] == before


async def test_only_the_oldest_of_what_the_broker_lacks_are_presumed_lost() -> None:
    settled = [await enqueue(probe) for _ in range(6)]
    elsewhere = await enqueue(probe.using(queue="probes"))
    await publish(*settled, elsewhere)
    for age, task_id in enumerate([*reversed(settled), elsewhere]):
        age_of_lease = settings.lease_seconds + 10 + age
        await alter(task_id, published_at=from_now(-age_of_lease))
    fresh = await enqueue(probe)
    await publish(fresh)
    assert await ledger.count_published() == {"default": 7, "probes": 1}

    assert await ledger.presume_lost("default", 2) == 2
    assert {message.id for message in await ledger.take_due(10, 60)} == set(settled[:2])
    # Those that were published less than a lease ago may be on their way.
    assert await ledger.presume_lost("default", 100) == 4
    assert {message.id for message in await ledger.take_due(10, 60)} == set(settled[2:])
    assert await ledger.presume_lost("nowhere", 100) == 0


async def test_running_task_is_not_presumed_lost() -> None:
    task_id = await enqueue(probe)
    await publish(task_id)
    await claim(task_id)
    await alter(task_id, published_at=from_now(-1000))
    assert await ledger.count_published() == {}
    assert await ledger.presume_lost("default", 1) == 0


async def test_prune_deletes_what_is_old_and_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "retention_days", 2)
    old, new = from_now(-2.1 * 86_400), from_now(-1.9 * 86_400)
    kept = [await enqueue(probe)]
    deleted: list[UUID] = []

    for status in ("succeeded", "cancelled", "failed"):
        for finished_at in (old, new):
            task_id = await enqueue(probe)
            await alter(task_id, status=status, finished_at=finished_at, wake_at=None)
            is_deleted = finished_at is old and status != "failed"
            (deleted if is_deleted else kept).append(task_id)

    assert [await ledger.prune(1), await ledger.prune(10), await ledger.prune(10)] == [
        1,
        1,
        0,
    ]
    left = await query(task_table.select())
    assert {row.id for row in left} == set(kept)


async def test_replay_grants_further_attempts_and_keeps_old_attempts_out() -> None:
    task_id = await enqueue(probe_hopeless, "")
    first = await claim(task_id)
    assert not await ledger.replay(task_id, 5)
    assert await ledger.fail(first, "on purpose", 0) == "failed"

    assert await ledger.replay(task_id, 5)
    row = await get(task_id)
    assert (row.status, row.attempts, row.max_attempts, row.finished_at) == (
        "queued",
        1,
        6,
        None,
    )

    second = await claim(task_id)
    assert second.attempt == 2
    assert not await ledger.renew(first)
    assert await ledger.succeed(second, "null", None)
    assert not await ledger.replay(task_id, 5)
    assert not await ledger.cancel(task_id)


async def test_moments_have_a_time_zone_and_tell_the_time() -> None:
    row = await get(await enqueue(probe))
    assert row.created_at.tzinfo is not None
    assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=1)
