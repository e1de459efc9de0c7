"""Define the Dramatiq references' task."""

from typing import Any

import dramatiq

from stamps import stamp


def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


def declare(broker: dramatiq.Broker) -> dramatiq.Actor[..., Any]:
    """Declare the task with a broker."""
    return dramatiq.actor(
        trivial, actor_name="reference", queue_name="reference", broker=broker
    )
