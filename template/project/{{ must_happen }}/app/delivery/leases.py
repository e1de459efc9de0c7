"""Keep the leases of the attempts that run on an event loop, all by one statement.

An attempt needs no timer and no asyncio task of its own for it. One whose lease is
lost, because another worker took its task over or somebody cancelled it, is stopped.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from app.delivery import ledger
from app.settings import settings

logger = logging.getLogger(__name__)

# How long an attempt that is given back may take to stop.
STOP_SECONDS = 5.0


class Lease:
    """The lease of the attempt that the current asyncio task runs."""

    def __init__(self, claim: ledger.Claim) -> None:
        self.claim = claim
        self.is_lost = False
        self.is_given_back = False
        self.is_ending = False
        """Whether its end is being recorded, which is not to be stopped."""
        self.task = asyncio.current_task()

    def lose(self) -> None:
        """Stop the attempt, whose task is another's now."""
        self.is_lost = self._stop() or self.is_lost

    def give_back(self) -> None:
        """Stop the attempt, whose task is to be given back."""
        self.is_given_back = self._stop() or self.is_given_back

    def _stop(self) -> bool:
        return not self.is_ending and self.task is not None and self.task.cancel()

    def end(self) -> None:
        """Let the asyncio task that ran the attempt go on."""
        for has_stopped in (self.is_lost, self.is_given_back):
            if has_stopped and self.task is not None:
                self.task.uncancel()


class Keeper:
    """Renews what is held on one event loop, three times in the length of a lease."""

    def __init__(self) -> None:
        self.is_draining = False
        """Whether the process is to end, so that no further attempt may begin."""
        self._held: dict[tuple[UUID, int], Lease] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def holds_suspect(self) -> bool:
        """Whether a task runs that may kill its process."""
        return any(lease.claim.is_suspect for lease in self._held.values())

    @contextlib.contextmanager
    def keep(self, claim: ledger.Claim) -> Iterator[Lease]:
        """Hold a lease meanwhile; once it is lost, the current task is cancelled."""
        lease = self._held[claim.id, claim.attempt] = Lease(claim)
        if self._timer is None and self._renewing is None:
            self._wait()
        try:
            yield lease
        finally:
            del self._held[claim.id, claim.attempt]
            lease.end()

    async def drain(self) -> None:
        """Let attempts end at a shutdown, and give back those that do not in time.

        Their tasks may start elsewhere at once. Whatever ends an attempt from now on,
        also a kill, is not counted as an interruption. Cancelled, it gives them back at
        once.
        """
        self.is_draining = True
        try:
            async with asyncio.timeout(settings.drain_seconds):
                await self._announce_shutdown()
                while tasks := self._tasks():
                    await asyncio.wait(tasks)
        except TimeoutError:
            logger.info("giving %d tasks back", len(self._held))
        finally:
            self.give_back()
            if tasks := self._tasks():
                await asyncio.wait(tasks, timeout=STOP_SECONDS)

    def give_back(self) -> None:
        """Stop all attempts; their tasks may start elsewhere at once."""
        for lease in self._held.values():
            lease.give_back()

    async def _announce_shutdown(self) -> None:
        if not self._held:
            return
        try:
            await ledger.announce_shutdown([each.claim for each in self._held.values()])
        except Exception as error:
            logger.warning("cannot announce the shutdown to the ledger: %r", error)

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return {lease.task for lease in self._held.values() if lease.task}

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(settings.lease_seconds / 3, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._held:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        held = dict(self._held)
        try:
            kept = await ledger.renew([lease.claim for lease in held.values()])
            for key in held.keys() - kept:
                # One that has ended meanwhile is held no more.
                if lease := self._held.get(key):
                    lease.lose()
        except Exception as error:
            # Not known to be lost; the fence decides at the end.
            logger.warning("cannot renew the leases of %d tasks: %r", len(held), error)
        finally:
            self._renewing = None
            self._wait()


_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper] = WeakKeyDictionary()


def keeper() -> Keeper:
    """Return the keeper of the running event loop."""
    return _keepers.setdefault(asyncio.get_running_loop(), Keeper())
