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

import asyncpg

from app.database import IS_SQLITE
from app.delivery import engine, ledger, notifications
from app.delivery.definitions import DEFAULT_QUEUE, queues
from app.settings import LOG_FORMAT, settings

logger = logging.getLogger(__name__)

# Messages published at a time: few enough for a slow broker to make headway.
BATCH = 100
PUBLISHED_SECONDS = 3600  # Then a message is presumed lost, even if no count shows it.


async def publish_due() -> bool:
    """Publish a batch of due tasks; return whether more may be due.

    Raises whatever the engine's client raises when the broker does not confirm in time.
    """
    due = await ledger.take_due(BATCH, PUBLISHED_SECONDS)
    # A row may name a queue that only another release of the code declares.
    known = queues()
    due = [
        message if message.queue in known else message._replace(queue=DEFAULT_QUEUE)
        for message in due
    ]

    try:
        if due:
            await engine.publish(due)
    except BaseException:
        await ledger.give_back(message.id for message in due)
        raise

    return len(due) == BATCH


async def find_lost() -> None:
    """Compare the ledger with the broker's own count, and bring back what it lost."""
    for queue, waiting in (await ledger.count_published()).items():
        if queue not in queues():  # Its tasks travel through the default queue.
            continue

        missing = waiting - await engine.depth(queue)
        if missing > 0 and (lost := await ledger.presume_lost(queue, missing)):
            logger.warning(
                "publishing %d tasks again, queue %s has lost them", lost, queue
            )


async def run() -> None:
    """Relay until cancelled; while the database or the broker is away, try on."""
    wake = asyncio.Event()
    listener: asyncpg.Connection | None = None
    compare_at = 0.0

    while True:
        try:
            if not IS_SQLITE and (listener is None or listener.is_closed()):
                listener = await notifications.listen(wake)

            more = await publish_due()

            if time.monotonic() >= compare_at:
                compare_at = time.monotonic() + settings.lease_seconds / 6
                await ledger.prune()
                await find_lost()
        except Exception as error:
            logger.error("the relay is held up and tries on: %r", error)
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
