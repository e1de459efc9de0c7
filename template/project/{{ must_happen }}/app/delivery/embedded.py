"""Run tasks inside the API process when no broker is configured, with the same promise.

The ledger itself is the queue: as many due tasks as can run are taken from it, so that
nothing waits in memory.
"""

import asyncio
import contextlib
import logging

from app.delivery import ledger, relay
from app.delivery.execution import run_attempt

logger = logging.getLogger(__name__)

CONCURRENCY = 8  # How many tasks run at a time.
DRAIN_SECONDS = 10  # How long tasks may run on at a shutdown; then they are given back.


async def run(wake: asyncio.Event) -> None:
    """Run due tasks until cancelled, then let the running ones end; `wake` says to look at once."""
    running: set[asyncio.Task[None]] = set()

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
                    finally:  # Also at a shutdown: what is claimed must run or be given back.
                        for claim in await claiming:
                            task = asyncio.create_task(run_attempt(claim))
                            running.add(task)
                            task.add_done_callback(end)
                if not running:
                    await ledger.prune(relay.PRUNE_BATCH)
            except Exception as error:
                logger.error("no task can be taken, trying on: %r", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(relay.INTERVAL_SECONDS):
                    await wake.wait()
            wake.clear()
    finally:
        if running:
            await asyncio.wait(running, timeout=DRAIN_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
