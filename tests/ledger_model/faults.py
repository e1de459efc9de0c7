"""Let a process die, or its database or broker fail it, at a chosen statement."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy.util import await_only


class ProcessDied(BaseException):
    """The process is no more: no other statement of it reaches the database."""


class Unreachable(ConnectionError):  # noqa: N818
    """What a server raises when it is away, or when its answer was lost on the way."""


class Kind(StrEnum):
    """What happens at the chosen moment."""

    DIES = "dies"
    ERROR = "error"
    CANCELLED = "cancelled"


class Fault(NamedTuple):
    """Something that happens at a moment, before or after a statement or commit."""

    kind: Kind
    moment: int


class Fuse:
    """Counts the moments of the process that acts; the others stand still meanwhile."""

    def __init__(self) -> None:
        self.is_dead = False
        self.is_shut_down = False
        self.shut_down: Callable[[], object] = lambda: None
        """Ends the process that acts, as a signal does."""
        self._fault: Fault | None = None
        self._moments = 0

    def reset(self, fault: Fault | None = None) -> None:
        """Begin with a process that lives, and perhaps with a fault to come."""
        self.is_dead = False
        self.is_shut_down = False
        self.shut_down = lambda: None
        self._fault = fault
        self._moments = 0

    def die(self) -> None:
        """End the process now."""
        self.is_dead = True
        raise ProcessDied

    def burn(self) -> bool:
        """Let a moment pass; return whether a signal came meanwhile."""
        if self.is_dead:
            raise ProcessDied

        moment, self._moments = self._moments, self._moments + 1
        if self._fault is None or self._fault.moment != moment:
            return False

        if self._fault.kind is Kind.DIES:
            self.die()
        if self._fault.kind is Kind.ERROR:
            raise Unreachable("by the model's wish")
        self.is_shut_down = True
        self.shut_down()
        return True

    def attach(self, dialect: Any) -> None:
        """Count the statements and commits sent; a roll-back needs no process."""
        for name in ("do_execute", "do_commit"):
            setattr(dialect, name, self._between_moments(getattr(dialect, name)))

    def _between_moments(self, work: Callable[..., None]) -> Callable[..., None]:
        def burn() -> None:
            if self.burn():
                # Here the asyncio task that sends this sees that it is cancelled.
                await_only(asyncio.sleep(0))

        def work_with_moments(*args: Any) -> None:
            burn()
            work(*args)
            burn()

        return work_with_moments


class Connection:
    """A connection of PostgreSQL's driver, as a process has it."""

    def __init__(self, connection: Any) -> None:
        self.real = connection

    def is_closed(self) -> bool:
        """Whether another one must be opened."""
        closed: bool = self.real.is_closed()
        return closed

    def terminate(self) -> None:
        """Close it at once."""
        self.real.terminate()

    async def execute(self, statement: str) -> Any:
        """Set something for the connection."""
        return await self.real.execute(statement)

    async def fetch(self, *args: Any) -> Any:
        """Send a statement, between two moments."""
        if fuse.burn():
            await asyncio.sleep(0)
        rows = await self.real.fetch(*args)

        try:
            if fuse.burn():
                await asyncio.sleep(0)
        except Unreachable:
            # Only with its connection an answer gets lost.
            self.terminate()
            raise
        return rows


fuse = Fuse()
