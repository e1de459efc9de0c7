"""Dramatiq on Redis without a ledger, at its safest settings."""

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

from publishing import main
from stamps import stamp
from two_statements import URL, claim_and_finish

broker = RedisBroker(
    client=redis.Redis.from_url(
        os.environ["BROKER_URL"], socket_timeout=1, socket_connect_timeout=1
    ),
    heartbeat_timeout=15_000,
    maintenance_chance=500_000,
)


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
