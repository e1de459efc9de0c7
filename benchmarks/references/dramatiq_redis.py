"""Run Dramatiq on Redis without a ledger, at its safest settings."""

import os

import redis
from dramatiq.brokers.redis import RedisBroker

from dramatiq_task import declare
from publishing import main

broker = RedisBroker(
    client=redis.Redis.from_url(
        os.environ["BROKER_URL"], socket_timeout=1, socket_connect_timeout=1
    ),
    heartbeat_timeout=15_000,
    maintenance_chance=500_000,
)
actor = declare(broker)


def publish(index: int) -> None:
    """Enqueue one task."""
    actor.send(index)


if __name__ == "__main__":
    main(publish)
