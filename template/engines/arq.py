"""Carry recorded tasks through ARQ, the only module that knows which engine is used.

`python -m app.delivery.engine` is the worker, of all queues or of those that are named
after it.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any
from uuid import UUID, uuid4

from arq import ArqRedis, Worker, func
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.utils import timestamp_ms

from app.database import database_engine
from app.delivery.definitions import must_happen_tasks, queues
from app.delivery.execution import execute
from app.delivery.ledger import Message
from app.settings import LOG_FORMAT, settings

logger = logging.getLogger(__name__)

QUEUE = "arq:queue:"  # and its name: a set of job ids, sorted by time
# Milliseconds of waiting that a level is worth; all get their turn.
PRIORITY_STEP = 3_600_000
# Milliseconds; what waits for longer than this week is published again.
JOB_EXPIRY = 604_800_000
# Seconds that a refusing or silent Redis may cost whoever publishes.
PUBLISH_TIMEOUT = 1.5
# Seconds beyond a task's own limit, which the execution enforces itself.
TIMEOUT_MARGIN = 10.0
MAX_JOBS = 32  # executions at a time in a process, shared by its queues
# Jobs read at a time; running ones stay at the head, so more than run in all processes.
HEAD = 500
UNREGISTERED = "unregistered"  # runs what this release has no task for


@lru_cache(maxsize=1)
def _redis(_: asyncio.AbstractEventLoop) -> ArqRedis:
    """Return this event loop's connections for publishing, which open when they are first used."""
    # Without a `socket_timeout`, see `main`: whoever publishes limits the whole.
    redis: ArqRedis = ArqRedis.from_url(settings.broker_url or "")
    return redis


async def publish(messages: Sequence[Message]) -> None:
    """Hand task ids to Redis, all or none, in one round trip, as `ArqRedis.enqueue_job` would.

    Raises RedisError, OSError or TimeoutError within PUBLISH_TIMEOUT if Redis does not
    confirm.
    """
    now = timestamp_ms()
    redis = _redis(asyncio.get_running_loop())
    async with (
        asyncio.timeout(PUBLISH_TIMEOUT),
        redis.pipeline(transaction=True) as pipe,
    ):
        for each in messages:
            # Not the task's: ARQ ignores a job whose id it remembers.
            job_id = uuid4().hex
            job = json.dumps(
                {"f": each.name, "a": [str(each.id)], "k": {}, "t": None, "et": now}
            )
            pipe.psetex(job_key_prefix + job_id, JOB_EXPIRY, job)
            pipe.zadd(QUEUE + each.queue, {job_id: now - each.priority * PRIORITY_STEP})
        await pipe.execute()


async def depth(queue: str) -> int:
    """Count the jobs that wait in Redis, without those that a worker has begun, dead or alive.

    ARQ keeps these at the head of the queue, locked by a key each.

    Raises RedisError, OSError or TimeoutError within PUBLISH_TIMEOUT if Redis does not
    answer.
    """
    redis = _redis(asyncio.get_running_loop())
    async with asyncio.timeout(PUBLISH_TIMEOUT):
        jobs = int(await redis.zcard(QUEUE + queue))
        head: list[bytes] = await redis.zrange(QUEUE + queue, 0, HEAD - 1)
        locks = [in_progress_key_prefix.encode() + job_id for job_id in head]
        return jobs - (int(await redis.exists(*locks)) if locks else 0)


def _read(payload: bytes) -> dict[str, Any]:
    """Read any job, for `_run`: ARQ itself drops unknown names and logs tracebacks."""
    name, task_ids = UNREGISTERED, []
    try:
        job = json.loads(payload)
        name = job["f"] if job["f"] in must_happen_tasks() else UNREGISTERED
        task_ids = [UUID(job["a"][0])]
    except Exception:  # pickle, other JSON, nesting without end
        logger.error("dropped malformed job: %.100r", payload)
    return {"f": name, "a": task_ids, "k": {}, "t": None, "et": timestamp_ms()}


async def _run(ctx: dict[Any, Any], *task_ids: Any, **_: Any) -> None:
    for task_id in task_ids:  # none if the job was malformed
        await execute(task_id)


async def _consume(
    new_worker: Callable[[], Worker], jobs: set[asyncio.Task[Any]]
) -> None:
    """Start the jobs of a queue until cancelled, and note those that outlive an ARQ worker."""
    not_text = b""  # an id at which ARQ's worker ends; it also ends when Redis does
    while True:
        worker = new_worker()
        # ARQ's own admits one more, at which the worker pauses for `poll_delay`.
        worker.sem = asyncio.BoundedSemaphore(worker.max_jobs)
        try:
            await worker.pool.zrem(worker.queue_name, not_text)
            await worker.async_run()
        except Exception as error:
            logger.warning("%s will be consumed again: %r", worker.queue_name, error)
            not_text = (
                error.object if isinstance(error, UnicodeDecodeError) else not_text
            )
            await asyncio.sleep(1)
        finally:
            jobs.update(worker.tasks.values())


async def main(consumed: Sequence[str]) -> None:
    """Start what waits in these queues until SIGTERM or SIGINT, then wait for what runs."""
    redis = ArqRedis.from_url(settings.broker_url or "", socket_timeout=1)
    limits = {UNREGISTERED: 0.0} | {
        t.name: t.time_limit for t in must_happen_tasks().values()
    }
    new_worker = partial(
        Worker,
        # Every task under its own name, so that ARQ's log and monitors show it.
        [
            func(_run, name=name, timeout=limit + TIMEOUT_MARGIN)
            for name, limit in limits.items()
        ],
        redis_pool=redis,
        handle_signals=False,
        max_jobs=max(1, MAX_JOBS // len(consumed)),
        # With ARQ's half second, `max_jobs` would start only twice a second.
        poll_delay=0.02,
        queue_read_limit=HEAD,
        keep_result=0,
        health_check_interval=30,
        job_deserializer=_read,
    )
    jobs: set[asyncio.Task[Any]] = set()
    workers = [partial(new_worker, queue_name=QUEUE + queue) for queue in consumed]
    consumers = {asyncio.create_task(_consume(each, jobs)) for each in workers}
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    # With `socket_timeout`, redis-py on Python 3.11 may swallow a cancellation.
    while consumers:
        for consumer in consumers:
            consumer.cancel()
        _, consumers = await asyncio.wait(consumers, timeout=0.1)
    await asyncio.gather(*jobs, return_exceptions=True)  # ARQ's timeouts cancel them
    await redis.aclose()
    await database_engine.dispose()


if __name__ == "__main__":
    import uvloop  # Not at the top: Windows, where no worker runs, has none.

    if settings.broker_url is None:
        sys.exit("The worker needs BROKER_URL, for example redis://localhost:6379/0")
    if unknown := set(sys.argv[1:]) - queues():
        sys.exit(f"No task declares the queue {', '.join(unknown)}")
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # Two lines a job otherwise.
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    uvloop.run(main(sys.argv[1:] or sorted(queues())))
