"""Enqueue and run the work on ARQ and Redis."""

import asyncio
import os

from arq import ArqRedis, Retry, create_pool
from arq.connections import RedisSettings

from services.orders import ATTEMPTS, PAUSE_SECONDS, Work, fulfil_order

IS_SAFEST = os.environ["REFERENCE_SETTINGS"] == "safest"
ENQUEUE_SECONDS = 1.5 if IS_SAFEST else None

_settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])
_pools: list[ArqRedis] = []


async def fulfil(_: object, order_id: str, seconds: float, failures: int) -> None:
    """Do the work of an order; ARQ tries again only what asks for it."""
    try:
        await fulfil_order(order_id, seconds, failures)
    except Exception as error:
        raise Retry(defer=PAUSE_SECONDS) from error


class WorkerSettings:
    """What `arq` runs."""

    functions = (fulfil,)
    redis_settings = _settings
    if IS_SAFEST:
        # Seconds; ten more, and what a dead worker held is started again.
        job_timeout = 20
        job_completion_wait = 3
        max_tries = ATTEMPTS


async def _enqueue(order_id: str, work: Work) -> None:
    if not _pools:
        _pools.append(await create_pool(_settings))
    arguments = (order_id, work.seconds, work.failures)
    await _pools[0].enqueue_job("fulfil", *arguments, _defer_by=work.delay)


async def enqueue(order_id: str, work: Work) -> None:
    """Enqueue the task."""
    await asyncio.wait_for(_enqueue(order_id, work), ENQUEUE_SECONDS)
