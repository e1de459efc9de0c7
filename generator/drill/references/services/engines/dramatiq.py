"""Enqueue and run the work on Dramatiq, with Redis or RabbitMQ."""

import os
from typing import Any

import dramatiq
from dramatiq.middleware import AsyncIO
from fastapi.concurrency import run_in_threadpool

from services.orders import ATTEMPTS, PAUSE_SECONDS, Work, fulfil_order


def _on_redis(url: str, *, is_safest: bool) -> dramatiq.Broker:
    import redis  # noqa: PLC0415 - only one of the brokers is installed
    from dramatiq.brokers.redis import RedisBroker  # noqa: PLC0415

    if not is_safest:
        return RedisBroker(url=url)
    return RedisBroker(
        client=redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1),
        # Milliseconds; what a dead worker held then goes to others.
        heartbeat_timeout=15_000,
        # In a million: every second command looks for such workers.
        maintenance_chance=500_000,
    )


def _on_rabbitmq(url: str, *, is_safest: bool) -> dramatiq.Broker:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415

    rabbitmq = RabbitmqBroker(url=url, confirm_delivery=is_safest)
    if is_safest:
        parameters: Any = rabbitmq.parameters
        parameters.socket_timeout = parameters.stack_timeout = 1
        parameters.heartbeat = 5
    return rabbitmq


_url = os.environ["BROKER_URL"]
_make = _on_redis if _url.startswith("redis") else _on_rabbitmq
broker = _make(_url, is_safest=os.environ["REFERENCE_SETTINGS"] == "safest")
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=ATTEMPTS - 1, min_backoff=PAUSE_SECONDS * 1000)
async def fulfil(order_id: str, seconds: float, failures: int) -> None:
    """Do the work of an order."""
    await fulfil_order(order_id, seconds, failures)


async def enqueue(order_id: str, work: Work) -> None:
    """Send the task from a thread: Dramatiq's client would block the event loop."""
    arguments = (order_id, work.seconds, work.failures)
    milliseconds = int(work.delay * 1000) or None
    await run_in_threadpool(
        fulfil.send_with_options, args=arguments, delay=milliseconds
    )
