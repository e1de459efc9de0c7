"""Run ARQ without a ledger: JSON instead of pickle, polling that keeps it busy."""

import asyncio
import json
import os
from typing import Any

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings

from publishing import main
from stamps import stamp

_settings = RedisSettings.from_dsn(os.environ["BROKER_URL"])
_settings.conn_timeout = 1
_settings.conn_retries = 0
_pools: list[ArqRedis] = []


def _dump(job: dict[str, Any]) -> bytes:
    return json.dumps(job).encode()


async def trivial(_: object, index: int) -> None:
    """Note the time."""
    stamp(index)


async def _publish(index: int) -> None:
    if not _pools:
        _pools.append(await create_pool(_settings, job_serializer=_dump))
    await _pools[0].enqueue_job("trivial", index, _queue_name="reference")


async def publish(index: int) -> None:
    """Enqueue one task."""
    await asyncio.wait_for(_publish(index), timeout=1)


class WorkerSettings:
    """What `arq` runs."""

    functions = (trivial,)
    redis_settings = _settings
    queue_name = "reference"
    job_serializer = _dump
    job_deserializer = json.loads
    job_completion_wait = 30
    keep_result = 0
    max_jobs = 16
    poll_delay = 0.02
    queue_read_limit = 500


if __name__ == "__main__":
    main(publish)
