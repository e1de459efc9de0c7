"""Let a process die, or its database or broker fail it, at a chosen statement."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import asyncpg


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
        self._fault: Fault | None = None
        self._moments = 0

    def reset(self, fault: Fault | None = None) -> None:
        """Begin with a process that lives, and perhaps with a fault to come."""
        self.is_dead = False
        self._fault = fault
        self._moments = 0

    def die(self) -> None:
        """End the process now."""
        self.is_dead = True
        raise ProcessDied

    def burn(self) -> None:
        """Let a moment pass."""
        if self.is_dead:
            raise ProcessDied

        moment, self._moments = self._moments, self._moments + 1
        if self._fault is None or self._fault.moment != moment:
            return

        if self._fault.kind is Kind.DIES:
            self.die()
        if self._fault.kind is Kind.ERROR:
            raise Unreachable("by the model's wish")
        raise asyncio.CancelledError

    def attach(self, dialect: Any) -> None:
        """Count the statements and commits sent; a roll-back needs no process."""
        for name in ("do_execute", "do_commit"):
            setattr(dialect, name, self._between_moments(getattr(dialect, name)))
        send_past_sqlalchemy = asyncpg.Connection.fetchmany

        async def send(*args: Any) -> Any:
            self.burn()
            rows = await send_past_sqlalchemy(*args)
            self.burn()
            return rows

        asyncpg.Connection.fetchmany = send

    def _between_moments(self, work: Callable[..., None]) -> Callable[..., None]:
        def work_with_moments(*args: Any) -> None:
            self.burn()
            work(*args)
            self.burn()

        return work_with_moments


fuse = Fuse()
