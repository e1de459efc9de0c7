"""Dramatiq on RabbitMQ without a ledger, at its safest settings."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from publishing import main
from stamps import stamp

broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
_parameters: Any = broker.parameters
_parameters.socket_timeout = _parameters.stack_timeout = 1
_parameters.connection_attempts = 1


@dramatiq.actor(actor_name="reference", queue_name="reference", broker=broker)
def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


def publish(index: int) -> None:
    """Enqueue one task."""
    trivial.send(index)


if __name__ == "__main__":
    main(publish)
