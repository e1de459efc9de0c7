"""Run tasks inside the API process when no broker is configured, with the same promise.

The ledger itself is the queue: only as many due tasks as can run are taken from it, so
that nothing waits in memory.
"""

import asyncio
import logging

from app.delivery import ledger, notifications
from app.delivery.execution import run_attempt

logger = logging.getLogger(__name__)

CONCURRENCY = 8  # How many tasks run at a time.
DRAIN_SECONDS = 10  # How long tasks may run on at a shutdown; then they are given back.


async def run(wake: asyncio.Event) -> None:
    """Run due tasks until cancelled, then let the running ones end.

    `wake` says that there is something to look for.
    """
    running: set[asyncio.Task[None]] = set()

    def start(claim: ledger.Claim) -> None:
        task = asyncio.create_task(run_attempt(claim))
        running.add(task)
        task.add_done_callback(end)

    def end(task: asyncio.Task[None]) -> None:
        running.discard(task)
        wake.set()

    try:
        while True:
            try:
                if free := CONCURRENCY - len(running):
                    claiming = asyncio.create_task(ledger.claim_due(free))
                    try:
                        await asyncio.shield(claiming)
                    finally:
                        # Also at a shutdown: what is claimed must run or be given back.
                        for claim in await claiming:
                            start(claim)

                if not running:
                    await ledger.prune()
            except Exception as error:
                logger.error("no task can be taken, trying on: %r", error)

            await notifications.wait(wake)
    finally:
        if running:
            await asyncio.wait(running, timeout=DRAIN_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
