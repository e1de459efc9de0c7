"""The relay publishes what is due or lost, and nothing twice that merely waits.

A list stands in for the broker behind the engine; the real one is met in the broker
tier.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.database import session_factory
from app.delivery import Enqueuer, ledger, notifications, relay
from app.delivery.execution import execute
from app.delivery.ledger import Message
from app.delivery.table import columns, from_now, task_table
from app.settings import settings
from tests.delivery.bare.recorded import alter, effects, enqueue, get, let_wake
from tests.delivery.support.probe_tasks import probe, probe_parent
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


class Broker:
    """A broker's queues, with the two functions that an engine has for them."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.published: Counter[UUID] = Counter()
        self.refused = 0
        self.refuses = False
        self.takes: int | None = None

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
        if self.refuses:
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
        tasks = Enqueuer(session)
        return [(await tasks.enqueue(probe)).id for _ in range(count)]


async def publish_all() -> None:
    """Let the relay publish until nothing is due."""
    while await relay.publish_due():
        pass


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

    while await ledger.count_published():
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
    assert len(broker.waiting) == (0 if fails else 3)


async def test_retry_is_published_in_its_time(broker: Broker) -> None:
    task_id = await enqueue(probe)
    await publish_all()
    claim = await ledger.claim(task_id)
    assert claim is not None
    await ledger.fail(claim, "on purpose", 100)
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
    assert await ledger.count_published() == {"default": relay.BATCH}
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
