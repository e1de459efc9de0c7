"""Enqueue and run the work on Celery, with Redis or RabbitMQ."""

import asyncio
import math
import os
from functools import cache
from typing import Any

from celery import Celery
from fastapi.concurrency import run_in_threadpool

from services.orders import ATTEMPTS, PAUSE_SECONDS, Work, fulfil_order

SAFEST: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    # Seconds; then what still runs goes back to its queue.
    "worker_soft_shutdown_timeout": 3,
}
SAFEST_ON_REDIS = {
    "broker_transport_options": {
        # Seconds until what a dead worker held is delivered again: longer than any
        # task.
        "visibility_timeout": 30,
        # Look for that every ten seconds, not every hundred.
        "unacked_restore_throttle": 1,
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
    }
}
SAFEST_ON_RABBITMQ = {
    "task_default_queue_type": "quorum",
    # Without it, delayed tasks block their worker.
    "task_default_exchange_type": "topic",
    "broker_heartbeat": 10,
    "broker_connection_timeout": 1,
    "broker_transport_options": {
        "confirm_publish": True,
        "connect_timeout": 1,
        "read_timeout": 1,
        "write_timeout": 1,
    },
}

_broker = os.environ["BROKER_URL"]
app = Celery("orders", broker=_broker)
app.conf.task_default_queue = "default"  # Which the drill empties.
if os.environ["REFERENCE_SETTINGS"] == "safest":
    app.conf.update(SAFEST)
    app.conf.update(
        SAFEST_ON_REDIS if _broker.startswith("redis") else SAFEST_ON_RABBITMQ
    )


@cache
# One event loop per child, so that connections are reused.
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


@app.task(
    autoretry_for=(Exception,),
    max_retries=ATTEMPTS - 1,
    default_retry_delay=PAUSE_SECONDS,
)
def fulfil(order_id: str, seconds: float, failures: int) -> None:
    """Do the work of an order."""
    _runner().run(fulfil_order(order_id, seconds, failures))


async def enqueue(order_id: str, work: Work) -> None:
    """Send the task from a thread: Celery's client would block the event loop."""
    arguments = (order_id, work.seconds, work.failures)
    # Whole seconds, because RabbitMQ's quorum queues know no others.
    countdown = math.ceil(work.delay) or None
    await run_in_threadpool(fulfil.apply_async, arguments, countdown=countdown)
