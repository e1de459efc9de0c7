"""The relay publishes what is due or lost, and nothing twice that merely waits.

A list stands in for the broker behind the engine; the real one is met in the broker
tier.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.database import session_factory
from app.delivery import Enqueuer, ledger, notifications, relay
from app.delivery.due import DueTasks
from app.delivery.execution import execute
from app.delivery.messages import Message
from app.delivery.table import columns, from_now, task_table
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
)
from tests.delivery.support.probe_tasks import probe, probe_hopeless, probe_parent
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


class Broker:
    """A broker's queues, with the two functions that an engine has for them."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.published: Counter[UUID] = Counter()
        self.refused = 0
        self.refuses = False
        self.takes: int | None = None
        self.uncountable: set[str] = set()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take messages, as often as it may."""
        if self.refuses or self.takes == 0:
            self.refused += 1
            raise ConnectionError("the broker is down")
        if self.takes is not None:
            self.takes -= 1
        self.waiting += messages
        self.published.update(message.id for message in messages)

    async def depth(self, queue: str) -> int:
        """Count messages."""
        if self.refuses or queue in self.uncountable:
            raise ConnectionError("the broker is down")
        return sum(message.queue == queue for message in self.waiting)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(relay, "engine", broker)
    monkeypatch.setattr(settings, "broker_url", "stand-in://")
    return broker


async def enqueue_many(count: int) -> list[UUID]:
    """Enqueue tasks in one transaction."""
    async with session_factory.begin() as session:
        calls = [probe.bind()] * count
        return [each.id for each in await Enqueuer(session).enqueue_many(calls)]


async def publish_all() -> None:
    """Let the relay publish until nothing is due."""
    due = DueTasks()
    while await relay.publish_due(due):
        pass


async def take(*task_ids: UUID) -> None:
    """Do what a relay does with due tasks before it publishes them."""
    taken = await relay.take(task_ids, 3600)
    assert {message.id for message in taken} == set(task_ids)


async def let_a_lease_pass() -> None:
    """Make every publication older than a lease."""
    long_ago = from_now(-settings.lease_seconds - 1)
    async with session_factory.begin() as session:
        await session.execute(
            update(task_table)
            .where(columns.published_at.is_not(None))
            .values(published_at=long_ago)
        )


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something, and cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=WITHIN_SECONDS)
        assert task.done()


async def test_only_as_many_as_the_broker_forgot_are_published_again(
    broker: Broker,
) -> None:
    recorded = set(await enqueue_many(1000))
    await publish_all()
    assert set(broker.published) == recorded

    async def compare_often() -> None:
        for _ in range(5):
            await relay.find_lost()
            await publish_all()

    await let_a_lease_pass()
    await compare_often()
    assert broker.published.total() == 1000  # A backlog that waits.
    del broker.waiting[350:650]
    await compare_often()
    assert broker.published.total() == 1300
    assert max(broker.published.values()) == 2
    await let_a_lease_pass()
    await compare_often()
    assert broker.published.total() == 1300


async def test_what_may_be_on_its_way_is_not_published_again(broker: Broker) -> None:
    await enqueue_many(3)
    await publish_all()
    broker.waiting.clear()
    await relay.find_lost()
    await publish_all()
    assert broker.published.total() == 3


async def test_every_task_runs_once_whichever_the_broker_forgot(broker: Broker) -> None:
    recorded = await enqueue_many(20)
    await publish_all()
    del broker.waiting[12:]

    while await relay.count_published():
        await let_a_lease_pass()
        await relay.find_lost()
        await publish_all()
        message = broker.waiting.pop(0)
        await execute(message.id)

    for task_id in recorded:
        assert await effects(task_id) == [1]


async def test_empty_broker_gets_everything_again(broker: Broker) -> None:
    recorded = await enqueue_many(10)
    await publish_all()
    broker.waiting.clear()
    await let_a_lease_pass()
    await relay.find_lost()
    await publish_all()
    assert {message.id for message in broker.waiting} == set(recorded)


async def test_queue_that_cannot_be_counted_holds_no_other_up(broker: Broker) -> None:
    await enqueue_many(3)
    await enqueue(probe.using(queue="probes"))
    await publish_all()
    await let_a_lease_pass()
    broker.waiting.clear()

    for uncountable, lost in (("default", 1), ("probes", 3)):
        broker.uncountable = {uncountable}
        with pytest.raises(ConnectionError):
            await relay.find_lost()
        assert len(await due()) == lost
        await publish_all()


async def test_relay_goes_on_after_an_outage(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.01)
    broker.refuses = True
    task_id = await enqueue(probe)

    async def was_refused() -> bool:
        return broker.refused >= 3

    async def was_published() -> bool:
        return broker.published[task_id] == 1

    async with running(relay.run()):
        await eventually_async(was_refused)
        assert "the broker is down" in caplog.text
        broker.refuses = False
        await eventually_async(was_published)
        assert (await get(task_id)).status == "queued"


async def test_relay_leaves_a_broker_that_is_down_in_peace(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "INTERVAL_SECONDS", 0.3)
    broker.refuses = True
    await enqueue(probe)
    started = asyncio.get_running_loop().time()

    async def was_refused_again() -> bool:
        return broker.refused >= 3

    async with running(relay.run()):
        await eventually_async(was_refused_again)
    assert asyncio.get_running_loop().time() - started >= 0.6


@pytest.mark.parametrize("fails", [False, True])
async def test_relay_is_told_of_the_children_of_a_task_that_succeeded(
    fails: bool, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def notify() -> None:
        told.append((await get(parent)).status)

    monkeypatch.setattr(notifications, "notify", notify)
    parent = await enqueue(probe_parent, children=3, failures=int(fails))
    await execute(parent)
    assert told == ([] if fails else ["succeeded"])
    await publish_all()
    # The parent's next attempt may be due by now.
    children = [each for each in broker.waiting if each.name == "probe"]
    assert len(children) == (0 if fails else 3)


async def test_retry_is_published_in_its_time(broker: Broker) -> None:
    task_id = await enqueue(probe)
    await publish_all()
    await ledger.fail(await claim(task_id), "on purpose", 100)
    await publish_all()
    await relay.find_lost()
    assert broker.published[task_id] == 1

    await let_wake(task_id)
    await publish_all()
    assert broker.published[task_id] == 2


async def test_only_what_was_not_published_is_due_again(broker: Broker) -> None:
    recorded = set(await enqueue_many(relay.BATCH + 1))
    broker.takes = 1
    with pytest.raises(ConnectionError):
        await publish_all()
    assert len(broker.waiting) == relay.BATCH
    assert await relay.count_published() == {"default": relay.BATCH}
    broker.takes = None
    await publish_all()
    assert broker.published == dict.fromkeys(recorded, 1)


async def test_task_of_an_undeclared_queue_takes_the_default_one(
    broker: Broker,
) -> None:
    task_id = await enqueue(probe)
    await alter(task_id, queue="of_another_release")
    await publish_all()
    assert [(message.id, message.queue) for message in broker.waiting] == [
        (task_id, "default")
    ]


async def test_two_relays_take_different_tasks() -> None:
    recorded = await enqueue_many(20)
    shares = await asyncio.gather(*(relay.take(recorded, 60) for _ in range(4)))
    taken = [message.id for share in shares for message in share]
    assert sorted(taken) == sorted(recorded)


async def test_urgent_tasks_are_published_first(broker: Broker) -> None:
    for priority in (0, 9, 4):
        await enqueue(probe.using(priority=priority, queue="probes"))
    await publish_all()
    assert [message.priority for message in broker.waiting] == [9, 4, 0]
    assert {(each.name, each.queue) for each in broker.waiting} == {("probe", "probes")}


async def test_interrupted_tasks_are_published_before_a_backlog(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 3)
    interrupted = [await enqueue(probe) for _ in range(2)]
    for task_id in interrupted:
        await interrupt(task_id)
    backlog = [await enqueue(probe) for _ in range(5)]
    await alter(*backlog, wake_at=from_now(-3600))

    assert await relay.publish_due(DueTasks())
    first = {each.id: each.priority for each in broker.waiting}
    assert set(interrupted) < set(first)
    assert [first[task_id] for task_id in interrupted] == [9, 9]
    await publish_all()
    assert broker.published == dict.fromkeys([*interrupted, *backlog], 1)


async def test_interruptions_are_counted_when_a_task_is_taken() -> None:
    task_id = await enqueue(probe_hopeless, "")
    old = await claim(task_id)
    await let_wake(task_id)
    await take(task_id)

    row = await get(task_id)
    assert (row.status, row.attempts, row.interruptions) == ("queued", 1, 1)
    assert "interrupted" in row.error
    assert await ledger.renew([old]) == set()
    again = await claim(task_id)
    assert (again.attempt, again.interruptions, again.failures) == (2, 1, 0)
    assert await ledger.succeed(again, "null", None)


async def test_task_that_was_interrupted_once_too_often_is_not_published(
    broker: Broker,
) -> None:
    task_id, neighbour = await enqueue_many(2)
    await alter(task_id, interruptions=ledger.MAX_INTERRUPTIONS - 1)
    for each in (task_id, neighbour):
        await interrupt(each)
    await publish_all()

    assert [message.id for message in broker.waiting] == [neighbour]
    row = await get(task_id)
    assert (row.status, row.wake_at) == ("failed", None)
    assert (row.interruptions, row.failures) == (ledger.MAX_INTERRUPTIONS, 0)
    assert row.finished_at is not None
    assert await relay.take([task_id], 60) == []


async def test_delayed_task_is_published_in_its_time(broker: Broker) -> None:
    task_id = await enqueue(probe.using(delay=timedelta(hours=1)))
    await publish_all()
    assert await relay.take([task_id], 60) == []
    await let_wake(task_id)
    await publish_all()
    assert broker.published == {task_id: 1}


async def test_task_that_nobody_claims_is_taken_again_in_its_time() -> None:
    task_id = await enqueue(probe)
    assert len(await relay.take([task_id], 1000)) == 1
    assert await relay.take([task_id], 60) == []
    assert await due() == []
    assert await relay.count_published() == {"default": 1}
    left = (await get(task_id)).wake_at - datetime.now(UTC)
    assert timedelta(seconds=500) < left <= timedelta(seconds=1000)
    await let_wake(task_id)
    await take(task_id)


async def test_what_could_not_be_published_is_due_at_once() -> None:
    kept, returned = await enqueue_many(2)
    await take(kept, returned)
    await relay.take_back([returned])
    assert await due() == [returned]
    assert await relay.count_published() == {"default": 1}


async def test_what_is_taken_back_late_is_left_as_it_is() -> None:
    everything = await enqueue_many(4)
    retried, finished, running, cancelled = everything
    await take(*everything)
    assert await ledger.fail(await claim(retried), "for now", 100) == "queued"
    assert await ledger.succeed(await claim(finished), "null", None)
    await claim(running)
    assert await ledger.cancel(cancelled)

    before = [await get(task_id) for task_id in everything]
    await relay.take_back(everything)
    assert [await get(task_id) for task_id in everything] == before


async def test_only_the_oldest_of_what_the_broker_lacks_are_presumed_lost() -> None:
    settled = await enqueue_many(6)
    elsewhere = await enqueue(probe.using(queue="probes"))
    await take(*settled, elsewhere)
    for age, task_id in enumerate([*settled, elsewhere]):
        age_of_lease = settings.lease_seconds + 10 + age
        await alter(task_id, published_at=from_now(-age_of_lease))
    fresh = await enqueue(probe)
    await take(fresh)
    assert await relay.count_published() == {"default": 7, "probes": 1}

    assert await relay.presume_lost("default", 2) == 2
    assert set(await due()) == set(settled[4:])
    await take(*settled[4:])
    # Those that were published less than a lease ago may be on their way.
    assert await relay.presume_lost("default", 100) == 4
    assert set(await due()) == set(settled[:4])
    assert await relay.presume_lost("nowhere", 100) == 0


async def test_what_runs_or_was_given_back_is_not_presumed_lost() -> None:
    running, returned = await enqueue_many(2)
    await take(running, returned)
    await claim(running)
    await ledger.give_back(await claim(returned), 3600)
    await alter(running, published_at=from_now(-1000))
    assert await relay.count_published() == {}
    assert await relay.presume_lost("default", 2) == 0
    assert await due() == []
