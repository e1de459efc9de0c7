"""Run Dramatiq on RabbitMQ without a ledger, at its safest settings."""

import os
from typing import Any

from dramatiq.brokers.rabbitmq import RabbitmqBroker

from dramatiq_task import declare
from publishing import main

broker = RabbitmqBroker(url=os.environ["BROKER_URL"], confirm_delivery=True)
_parameters: Any = broker.parameters
_parameters.socket_timeout = _parameters.stack_timeout = 1
_parameters.connection_attempts = 1
actor = declare(broker)


def publish(index: int) -> None:
    """Enqueue one task."""
    actor.send(index)


if __name__ == "__main__":
    main(publish)
