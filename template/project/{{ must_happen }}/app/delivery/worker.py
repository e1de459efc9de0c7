"""Run due tasks straight from the ledger, which is the queue: no broker is needed.

Only as many tasks as can run are claimed, so that nothing waits in memory.
"""

import asyncio
import time
from collections.abc import Collection
from uuid import UUID

from app.delivery import leases, ledger, notifications
from app.delivery.due import DueTasks
from app.delivery.execution import run_attempt
from app.delivery.outages import Outage
from app.delivery.retention import pruning

CONCURRENCY = 20  # How many tasks run at a time; the pool has places for more.
LOOK_AHEAD = 1000  # How many due tasks are found by one look; none is claimed by it.
BATCH = 10_000  # How many tasks are taken over from a broker at a time.


class Worker:
    """Claims due tasks as places become free, and runs them."""

    def __init__(self, consumed: Collection[str] | None) -> None:
        self.may_find = True
        """Whether something may be due that the last look has not found."""
        self._has_ended = asyncio.Event()
        self._running: set[tuple[UUID, int]] = set()
        # With those whose end is being recorded.
        self._attempts: set[asyncio.Task[None]] = set()
        self._due = DueTasks(consumed)
        self._found: list[UUID] = []
        self._looked_at = 0.0
        self._is_contended = False

    @property
    def free(self) -> int:
        """How many more tasks can run while the ends of as many others are recorded."""
        return min(
            CONCURRENCY - len(self._running), 2 * CONCURRENCY - len(self._attempts)
        )

    async def wait_for_place(self) -> None:
        """Wait until a task has ended."""
        self._has_ended.clear()
        await self._has_ended.wait()

    async def start_due(self) -> None:
        """Start due tasks until there is no place left, or none that is due."""
        while self.free:
            # What is more urgent may have come meanwhile.
            age = time.monotonic() - self._looked_at
            if not self._found or age > notifications.INTERVAL_SECONDS:
                if not self.may_find and not self._found:
                    return
                await self._look()
            await self._claim()

    async def drain(self) -> None:
        """Let tasks end, and give back those that do not in time."""
        try:
            await leases.keeper().drain()
        finally:  # Also at a second signal.
            if self._attempts:
                await asyncio.wait(self._attempts, timeout=leases.STOP_SECONDS)

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        self._found = await self._due.look(
            LOOK_AHEAD, again=bool(self._found), in_order=not self._is_contended
        )
        self.may_find = len(self._found) == LOOK_AHEAD

    async def _claim(self) -> None:
        ids, self._found = self._found[: self.free], self._found[self.free :]
        claiming = asyncio.create_task(ledger.claim(ids))
        try:
            await asyncio.shield(claiming)
        except Exception:
            self._found = ids + self._found
            raise
        finally:
            # Also at a shutdown: what is claimed must run or be given back.
            await asyncio.wait({claiming})
            claims = [] if claiming.exception() else claiming.result()
            for claim in claims:
                self._start(claim)

        # Other workers are at the same tasks.
        self._is_contended = len(claims) < len(ids)

    def _start(self, claim: ledger.Claim) -> None:
        key = (claim.id, claim.attempt)

        def leave(_: object = None) -> None:
            self._running.discard(key)
            self._has_ended.set()

        self._running.add(key)
        attempt = asyncio.create_task(run_attempt(claim, on_end=leave))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        attempt.add_done_callback(leave)


async def run(wake: asyncio.Event, consumed: Collection[str] | None = None) -> None:
    """Run due tasks until cancelled, then let the running ones end.

    They are those of the `consumed` queues, or of all. `wake` says that there is
    something to look for.
    """
    worker = Worker(consumed)
    listener = notifications.Listener(wake)
    outage = Outage("no task can be taken")
    # Another may have ended on this event loop, as in tests.
    leases.keeper().is_draining = False
    has_taken_over = False

    async with pruning():
        try:
            while True:
                try:
                    await listener.listen()
                    if not has_taken_over:
                        await take_over()
                        has_taken_over = True
                    await worker.start_due()
                    outage.end()
                except Exception as error:
                    outage.go_on(error)

                if worker.free:
                    await notifications.wait(wake)
                    worker.may_find = True
                else:
                    await worker.wait_for_place()
        finally:
            await worker.drain()


async def take_over() -> None:
    """Make due what a broker was handed before the service did without one."""
    while await ledger.take_back(BATCH) == BATCH:
        pass
