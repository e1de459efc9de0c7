"""Enqueue so many tasks a second for so many seconds, and note when each was."""

import asyncio
import sys
import time

from app.database import database_engine, session_factory
from app.delivery import Enqueuer, notifications
from app.tasks.bench_tasks import trivial
from stamps import note_enqueue

GROUP = 5  # How many are recorded by one transaction.


async def enqueue(first: int) -> None:
    """Enqueue a few tasks in one transaction."""
    at = time.time()
    async with session_factory.begin() as session:
        tasks = Enqueuer(session)
        for index in range(first, first + GROUP):
            await tasks.enqueue(trivial, index)
            note_enqueue(index, at)


async def main(rate: int, seconds: int) -> None:
    """Enqueue them at their appointed times, as requests would, one after the other."""
    with notifications.woken_by_commits() as wake:
        notifying = asyncio.create_task(notifications.notify_when_woken(wake))
        began = time.perf_counter()
        for first in range(0, rate * seconds, GROUP):
            appointed = began + first / rate
            await asyncio.sleep(max(0.0, appointed - time.perf_counter()))
            await enqueue(first)
        await asyncio.sleep(2 * notifications.PAUSE_SECONDS)
        notifying.cancel()
    await database_engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
