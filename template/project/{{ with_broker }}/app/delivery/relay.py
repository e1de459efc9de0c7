"""Publish what is due in the ledger: new tasks, delayed ones, retries, and lost ones.

    python -m app.delivery.relay

Nothing else publishes, so that no request and no task waits for the broker. A relay
looks every second, and at once when PostgreSQL says that something was enqueued. Any
number may run. A backlog that waits in a healthy broker is not published again: only as
many messages as the broker is short of, by its own count, are presumed lost.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Iterable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import func, select

from app.delivery import engine, ledger, notifications
from app.delivery.definitions import DEFAULT_QUEUE, queues
from app.delivery.due import DueTasks
from app.delivery.messages import Message
from app.delivery.outages import Outage
from app.delivery.retention import pruning
from app.delivery.statements import Batch, BatchStatement, query
from app.delivery.table import (
    Status,
    columns,
    from_now,
    is_published,
    locked,
    task_table,
)
from app.settings import LOG_FORMAT, settings

logger = logging.getLogger(__name__)

# Messages published at a time: few enough for a slow broker to make headway.
BATCH = 100
# Messages presumed lost at a time: few enough for one statement.
LOST = 100_000
PUBLISHED_SECONDS = 3600  # Then a message is presumed lost, even if no count shows it.


_to_take = Batch(columns.id, sa.column("delay", sa.Float()))
# One that somebody holds is being started.
_takeable = locked(
    select(columns.id, _to_take.columns.delay)
    .join(_to_take.table, columns.id == _to_take.columns.id)
    .where(columns.wake_at <= from_now())
)
TAKE = BatchStatement(
    _to_take,
    sa.update(task_table)
    .where(columns.id == _takeable.c.id)
    .values(
        status=ledger.unless_last(Status.QUEUED, Status.FAILED),
        published_at=from_now(),
        wake_at=ledger.unless_last(from_now(_takeable.c.delay), sa.null()),
        **ledger.interruption,
    )
    .returning(
        columns.id,
        columns.name,
        columns.queue,
        columns.priority,
        columns.interruptions,
        columns.status,
    ),
)


async def take(task_ids: Iterable[UUID], seconds: float) -> list[Message]:
    """Take those tasks that are due, to publish them, the most urgent first.

    One that is interrupted for the last time ends as failed instead. Two relays never
    take the same task at a time; what nobody claims within so many seconds is due
    again.
    """
    rows = await TAKE.run_all([{"id": each, "delay": seconds} for each in task_ids])
    messages = [
        # What was interrupted is late already.
        Message(id_, name, queue, 9 if interruptions else priority)
        for id_, name, queue, priority, interruptions, status in filter(None, rows)
        if status == Status.QUEUED
    ]
    return sorted(messages, key=lambda message: -message.priority)


async def take_back(task_ids: Iterable[UUID]) -> None:
    """Make tasks due again that were taken and could not be published."""
    taken = list(task_ids)
    await ledger.take_back(len(taken), columns.id.in_(taken))


async def count_published() -> dict[str, int]:
    """Return how many tasks of each queue the broker holds, as far as is known here."""
    statement = (
        select(columns.queue, func.count()).where(is_published).group_by(columns.queue)
    )
    return dict(tuple(row) for row in await query(statement))


async def presume_lost(queue: str, count: int) -> int:
    """Make due again `count` tasks of a queue, `LOST` at most, the first published.

    Only those published at least a lease ago are taken: later ones may still be on
    their way. Returns how many there were.
    """
    is_old = columns.published_at <= from_now(-settings.lease_seconds)
    oldest = locked(
        select(columns.id)
        .where(is_published, columns.queue == queue, is_old)
        .order_by(columns.published_at)
        .limit(min(count, LOST))
    )

    statement = sa.update(task_table).where(columns.id == oldest.c.id)
    lost = await query(statement.values(wake_at=from_now()).returning(columns.id))
    return len(lost)


async def publish_due(due: DueTasks) -> bool:
    """Publish a batch of due tasks; return whether more may be due.

    Raises whatever the engine's client raises when the broker does not confirm in time.
    """
    found = await due.look(BATCH)
    messages = await take(found, PUBLISHED_SECONDS)
    # A row may name a queue that only another release of the code declares.
    known = queues()
    messages = [
        message if message.queue in known else message._replace(queue=DEFAULT_QUEUE)
        for message in messages
    ]

    try:
        if messages:
            await engine.publish(messages)
    except BaseException:
        await take_back(message.id for message in messages)
        raise

    return len(found) == BATCH


async def find_lost() -> None:
    """Compare the ledger with the broker's own count, and bring back what it lost.

    Raises what the engine's client raises for one queue, after all the others.
    """
    failures = []

    for queue, waiting in (await count_published()).items():
        if queue not in queues():  # Its tasks travel through the default queue.
            continue

        try:
            missing = waiting - await engine.depth(queue)
        except Exception as error:
            failures.append(error)
            continue
        if missing > 0 and (lost := await presume_lost(queue, missing)):
            logger.warning(
                "publishing %d tasks again, queue %s has lost them", lost, queue
            )

    if failures:
        raise failures[0]


async def run() -> None:
    """Relay until cancelled; while the database or the broker is away, try on."""
    wake = asyncio.Event()
    due = DueTasks()
    listener = notifications.Listener(wake)
    outage = Outage("the relay is held up")
    compare_at = 0.0

    async with pruning():
        while True:
            try:
                await listener.listen()
                more = await publish_due(due)

                if time.monotonic() >= compare_at:
                    compare_at = time.monotonic() + settings.lease_seconds / 6
                    await find_lost()
                outage.end()
            except Exception as error:
                outage.go_on(error)
                await asyncio.sleep(notifications.INTERVAL_SECONDS)
                continue

            if not more:
                await notifications.wait(wake)


async def main() -> None:
    """Relay until SIGTERM or SIGINT."""
    relaying = asyncio.create_task(run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, relaying.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await relaying


if __name__ == "__main__":
    if settings.broker_url is None:
        raise SystemExit(
            "BROKER_URL is not set: the API runs its tasks itself, without a relay"
        )
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    asyncio.run(main())
