"""Dramatiq on RabbitMQ without a ledger, at its safest settings."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import AsyncIO

from publishing import main
from stamps import stamp
from two_statements import URL, claim_and_finish

broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
_parameters: Any = broker.parameters
_parameters.socket_timeout = _parameters.stack_timeout = 1
_parameters.connection_attempts = 1


def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


async def recorded(index: int) -> None:
    """Note the time of a task that is in the ledger."""
    await claim_and_finish(index)
    stamp(index)


if URL:
    broker.add_middleware(AsyncIO())
actor = dramatiq.actor(
    recorded if URL else trivial, actor_name="reference", queue_name="reference", broker=broker
)


def publish(index: int) -> None:
    """Enqueue one task."""
    actor.send(index)


if __name__ == "__main__":
    main(publish)
