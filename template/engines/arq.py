"""Carry recorded tasks through ARQ, the only module that knows which engine is used.

ARQ's worker reads one queue. Ours reads several: `arq app.delivery.engine.WorkerSettings` starts
one ARQ worker per queue on its event loop, for every queue of the project or only for those in
the environment variable WORKER_QUEUES (comma-separated). They share MAX_JOBS.

A queue is the sorted set `arq:queue:<name>`, ordered by time; a priority level counts as
PRIORITY_STEP of waiting, so that urgent tasks overtake and the others still get their turn.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any
from uuid import UUID, uuid4

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from arq.worker import Function, Worker, func
from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from app.database import engine as database
from app.delivery.definitions import must_happen_tasks, queues
from app.delivery.execution import execute
from app.delivery.ledger import Message
from app.settings import LOG_FORMAT, settings

logger = logging.getLogger(__name__)

PUBLISH_TIMEOUT = 1.5  # seconds that a refusing or silent Redis may cost whoever publishes
SOCKET_TIMEOUT = 1.0  # seconds for one answer from Redis
PRIORITY_STEP = timedelta(hours=1)
JOB_EXPIRY = timedelta(days=7)  # the ledger publishes again what waited longer

MAX_JOBS = 16  # executions at a time in a process, shared by its queues
POLL_DELAY = 0.02  # seconds; with ARQ's half second, MAX_JOBS would start only twice a second
QUEUE_READ_LIMIT = 500  # running jobs stay at the queue's head: more than run in all processes
TIMEOUT_MARGIN = 10.0  # seconds beyond a task's own limit, which the execution enforces itself
HEALTH_INTERVAL = 30  # seconds between the lines that ARQ leaves at `<queue key>:health-check`
RECONNECT_DELAY = 1.0  # seconds between attempts to reach Redis again
UNREGISTERED = "unregistered"  # runs what this release has no task for


def queue_key(queue: str) -> str:
    """The Redis key of a queue."""
    return f"arq:queue:{queue}"


@lru_cache(maxsize=1)
def _redis(loop: asyncio.AbstractEventLoop) -> ArqRedis:
    """The connections of this event loop, opened when they are first used."""
    if settings.broker_url is None:
        raise RuntimeError("BROKER_URL is not set")
    return ArqRedis(
        BlockingConnectionPool.from_url(
            settings.broker_url,
            max_connections=16,
            timeout=SOCKET_TIMEOUT,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
        )
    )


async def publish(messages: Sequence[Message]) -> None:
    """Hand task ids to Redis, all or none, in one round trip.

    Writes what `ArqRedis.enqueue_job` writes. Every job has an id of its own: ARQ silently
    ignores a job whose id it remembers.

    Raises RedisError, OSError or TimeoutError within PUBLISH_TIMEOUT if Redis does not confirm.
    """
    now = int(time() * 1000)
    async with asyncio.timeout(PUBLISH_TIMEOUT):
        async with _redis(asyncio.get_running_loop()).pipeline(transaction=True) as pipe:
            for message in messages:
                job_id = uuid4().hex
                job = serialize_job(
                    message.name, (str(message.id),), {}, None, now, serializer=_serialize
                )
                score = now - message.priority * PRIORITY_STEP // timedelta(milliseconds=1)
                pipe.psetex(job_key_prefix + job_id, JOB_EXPIRY, job)
                pipe.zadd(queue_key(message.queue), {job_id: score})
            await pipe.execute()


async def depth(queue: str) -> int:
    """Count the jobs that wait in Redis, without those that a worker has begun, dead or alive.

    ARQ keeps these at the head of the queue, locked by a key each.

    Raises RedisError, OSError or TimeoutError within PUBLISH_TIMEOUT if Redis does not answer.
    """
    async with asyncio.timeout(PUBLISH_TIMEOUT):
        redis = _redis(asyncio.get_running_loop())
        jobs = int(await redis.zcard(queue_key(queue)))
        head: list[bytes] = await redis.zrange(queue_key(queue), 0, QUEUE_READ_LIMIT - 1)
        locks = [in_progress_key_prefix.encode() + job_id for job_id in head]
        return jobs - (int(await redis.exists(*locks)) if locks else 0)


def _serialize(job: dict[str, Any]) -> bytes:
    return json.dumps(job, default=repr).encode()


def _deserialize(payload: bytes) -> dict[str, Any]:
    """Read a job so that all reach `_run`: ARQ itself drops unknown names and logs tracebacks."""
    name, argument = UNREGISTERED, payload
    with suppress(Exception):  # pickle, other JSON, nesting without end
        job = json.loads(payload)
        argument = job["a"][0]
        if job["f"] in must_happen_tasks():
            name = job["f"]
    return {"f": name, "a": (argument,), "k": {}, "t": None, "et": int(time() * 1000)}


async def _run(ctx: dict[Any, Any], *arguments: Any, **_: Any) -> None:
    try:
        task_id = UUID(arguments[0])
    except (ValueError, TypeError, AttributeError):
        logger.error("dropped malformed job %s: %.100r", ctx["job_id"], arguments[0])
        return
    await execute(task_id)


def _functions() -> list[Function]:
    """Every task under its own name, so that ARQ's log and monitors show it."""
    return [
        func(_run, name=UNREGISTERED, timeout=TIMEOUT_MARGIN),
        *(
            func(_run, name=task.name, timeout=task.time_limit + TIMEOUT_MARGIN)
            for task in must_happen_tasks().values()
        ),
    ]


def _checked_functions() -> Iterator[Function]:
    """The same after a check of the broker: as a generator, run only when ARQ starts a worker."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("arq").propagate = not logging.getLogger("arq").handlers
    if settings.broker_url is None:
        sys.exit("The worker needs BROKER_URL, for example redis://localhost:6379/0")
    try:
        with Redis.from_url(settings.broker_url, socket_timeout=5) as redis:
            info = redis.info()
    except (RedisError, OSError) as error:
        sys.exit(f"The worker cannot reach the broker at BROKER_URL: {error}")
    if info.get("aof_enabled") == 0:
        logger.warning("Redis has appendonly off: a restart of Redis forgets waiting jobs")
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        logger.warning("Redis has maxmemory-policy %s: it may evict jobs", policy)
    if info.get("role") == "slave":
        logger.warning("Redis is a replica: jobs cannot be taken from it")
    yield from _functions()


def _consumed_queues() -> frozenset[str]:
    chosen = frozenset(filter(None, os.environ.get("WORKER_QUEUES", "").split(",")))
    if unknown := chosen - queues():
        sys.exit(f"WORKER_QUEUES names unknown queues: {', '.join(sorted(unknown))}")
    return chosen or queues()


class _Consumer:
    """ARQ's worker of one queue, made anew after each failure of Redis: ARQ's own one ends."""

    def __init__(self, queue: str, redis: ArqRedis) -> None:
        self._queue = queue
        self._redis = redis
        self._stopping = False
        self._interrupted: list[asyncio.Future[Any]] = []  # what runs on after such a failure
        self._renew()
        self._task = asyncio.create_task(self._consume())

    def _renew(self) -> None:
        self._worker = Worker(
            _functions(),
            queue_name=queue_key(self._queue),
            redis_pool=self._redis,
            handle_signals=False,
            max_jobs=max(1, MAX_JOBS // len(queues())),
            poll_delay=POLL_DELAY,
            queue_read_limit=QUEUE_READ_LIMIT,
            max_tries=sys.maxsize,  # the ledger counts attempts
            keep_result=0,
            health_check_interval=HEALTH_INTERVAL,
            job_serializer=_serialize,
            job_deserializer=_deserialize,
        )

    async def _consume(self) -> None:
        while not self._stopping:
            try:
                await self._worker.async_run()
            except Exception as error:
                logger.warning("queue %s will be consumed again: %r", self._queue, error)
                await self._recover(error)

    async def _recover(self, error: Exception) -> None:
        if running := self._worker.tasks.values():
            self._interrupted.append(asyncio.gather(*running, return_exceptions=True))
        self._renew()
        while not self._stopping:
            with suppress(RedisError, OSError):
                if isinstance(error, UnicodeDecodeError):  # ARQ stops at a member that is no text
                    await self._redis.zrem(queue_key(self._queue), error.object)
                await self._redis.ping()
                return
            await asyncio.sleep(RECONNECT_DELAY)

    async def stop(self) -> None:
        """Take no more jobs and wait for those that run; their time limits bound the wait."""
        self._stopping = True
        self._worker.burst, self._worker.max_burst_jobs = True, 0  # ends once its jobs have ended
        await self._task
        await asyncio.gather(*self._interrupted)


async def _start(context: dict[str, Any]) -> None:
    if not logging.getLogger("arq").isEnabledFor(logging.DEBUG):
        logging.getLogger("arq.worker").setLevel(logging.WARNING)  # two lines a job otherwise
    redis = _redis(asyncio.get_running_loop())
    context["consumers"] = [_Consumer(queue, redis) for queue in sorted(_consumed_queues())]


async def _drain(context: dict[str, Any]) -> None:
    await asyncio.gather(*(consumer.stop() for consumer in context.get("consumers", ())))
    await _redis(asyncio.get_running_loop()).aclose()
    await database.dispose()


class _ParentRedis(ArqRedis):
    """For the worker that only starts the others: it must outlive an outage of Redis."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        with suppress(RedisError, OSError):
            return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]


class WorkerSettings:
    """What the `arq` command reads; this worker takes no jobs, but starts one per queue."""

    functions = _checked_functions()
    redis_pool = _ParentRedis(
        BlockingConnectionPool.from_url(settings.broker_url or "redis://", socket_timeout=5)
    )
    max_jobs = 0
    on_startup = _start
    on_shutdown = _drain
