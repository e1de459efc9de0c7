"""Dramatiq on Redis without a ledger, at its safest settings."""

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from publishing import main
from stamps import stamp

broker = RedisBroker(
    client=redis.Redis.from_url(
        os.environ["BROKER_URL"], socket_timeout=1, socket_connect_timeout=1
    ),
    heartbeat_timeout=15_000,
    maintenance_chance=500_000,
)


@dramatiq.actor(actor_name="reference", queue_name="reference", broker=broker)
def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


def publish(index: int) -> None:
    """Enqueue one task."""
    trivial.send(index)


if __name__ == "__main__":
    main(publish)
