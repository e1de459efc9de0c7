"""Define the Dramatiq references' task: `async def`, as ours, if it has a ledger."""

from typing import Any

import dramatiq
from dramatiq.middleware import AsyncIO

from stamps import stamp
from two_statements import URL, claim_and_finish


def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


async def recorded(index: int) -> None:
    """Note the time of a task that is in the ledger."""
    await claim_and_finish(index)
    stamp(index)


def declare(broker: dramatiq.Broker) -> dramatiq.Actor[..., Any]:
    """Declare the task with a broker."""
    if URL:
        broker.add_middleware(AsyncIO())
    return dramatiq.actor(
        recorded if URL else trivial,
        actor_name="reference",
        queue_name="reference",
        broker=broker,
    )
