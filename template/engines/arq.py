"""Carry recorded tasks through ARQ on Redis.

    python -m app.delivery.engine [QUEUE ...]

is the worker, of all queues or of those that are named. Only this module knows which
engine is used. A message is a task's id and nothing else: what the ledger says about
that id decides what happens. So a lost message is published again by the relay, and a
duplicate finds nothing to claim.
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
from arq.worker import Function

from app.database import database_engine
from app.delivery import leases
from app.delivery.definitions import must_happen_tasks, queues
from app.delivery.execution import execute
from app.delivery.messages import Message
from app.settings import LOG_FORMAT, settings

logger = logging.getLogger(__name__)

# Seconds after which `publish` and `depth` give up.
PUBLISH_SECONDS = 1.5
# Seconds that a worker waits for one answer of Redis.
SOCKET_SECONDS = 1.0
# Seconds past its time limit after which a task that could not be stopped is cancelled
# once more.
KILL_SECONDS = 10.0
# The name under which runs what this release has no task for: the ledger decides.
UNKNOWN_TASK = "app.delivery.unknown_task"
# What precedes a queue's name in the key of its set of job ids, sorted by time.
QUEUE_KEY_PREFIX = "arq:queue:"
# Milliseconds of waiting that a level of priority is worth; all get their turn.
PRIORITY_STEP = 3_600_000
# Milliseconds; what waits for longer than this week is published again.
JOB_EXPIRY = 604_800_000
# How many tasks a process runs at a time, shared by its queues.
MAX_JOBS = 32
# How many jobs are read at a time: running ones stay at the head of the queue, so more
# than run in all processes.
HEAD = 500


def _read(payload: bytes) -> dict[str, Any]:
    # ARQ itself drops unknown names, and logs a traceback for each malformed job.
    name, task_ids = UNKNOWN_TASK, []
    try:
        job = json.loads(payload)
        name = job["f"] if job["f"] in must_happen_tasks() else UNKNOWN_TASK
        task_ids = [UUID(job["a"][0])]
    except Exception:  # A pickle, other JSON, nesting without end.
        logger.warning("dropped a malformed message: %.100r", payload)

    return {"f": name, "a": task_ids, "k": {}, "t": None, "et": timestamp_ms()}


async def _run(ctx: dict[Any, Any], *task_ids: Any, **_: Any) -> None:
    for task_id in task_ids:  # None, if the job was malformed.
        await execute(task_id)


async def _consume(
    new_worker: Callable[[], Worker], jobs: set[asyncio.Task[Any]]
) -> None:
    """Run a queue's jobs until cancelled, and note those that outlive an ARQ worker."""
    # An id at which ARQ's worker ends; it also ends when Redis does.
    not_text = b""

    while True:
        worker = new_worker()
        # ARQ's own admits one more, at which the worker pauses for `poll_delay`.
        worker.sem = asyncio.BoundedSemaphore(worker.max_jobs)

        try:
            await worker.pool.zrem(worker.queue_name, not_text)
            await worker.async_run()
        except Exception as error:
            logger.warning("%s will be consumed again: %r", worker.queue_name, error)
            if isinstance(error, UnicodeDecodeError):
                not_text = error.object
            await asyncio.sleep(1)
        finally:
            jobs.update(worker.tasks.values())


async def main(consumed: Sequence[str]) -> None:
    """Run what waits in these queues until SIGTERM or SIGINT.

    Then what runs may end, or is given back.
    """
    redis = ArqRedis.from_url(
        settings.broker_url or "", socket_timeout=SOCKET_SECONDS, **_tls()
    )
    new_worker = partial(
        Worker,
        _register_tasks(),
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
    keys = [QUEUE_KEY_PREFIX + queue for queue in consumed]
    workers = [partial(new_worker, queue_name=key) for key in keys]
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

    await leases.keeper().drain()
    if jobs:
        await asyncio.wait(jobs, timeout=leases.STOP_SECONDS)
    await redis.aclose()
    await database_engine.dispose()


def _tls() -> dict[str, bool]:
    # Before its version 6, redis-py takes certificates of any host by default.
    is_encrypted = (settings.broker_url or "").startswith("rediss:")
    return {"ssl_check_hostname": True} if is_encrypted else {}


def _register_tasks() -> list[Function]:
    # Each under its own name, so that ARQ's log and monitors show it.
    limits = {task.name: task.time_limit for task in must_happen_tasks().values()}
    return [
        func(_run, name=name, timeout=limit + KILL_SECONDS)
        for name, limit in {**limits, UNKNOWN_TASK: 0.0}.items()
    ]


@lru_cache(maxsize=1)
def _connection(_: asyncio.AbstractEventLoop) -> ArqRedis:
    # Without a `socket_timeout`, see `main`: whoever publishes limits the whole.
    connection: ArqRedis = ArqRedis.from_url(settings.broker_url or "", **_tls())
    return connection


async def _send(messages: Sequence[Message]) -> None:
    # In one round trip, as `ArqRedis.enqueue_job` would.
    now = timestamp_ms()
    connection = _connection(asyncio.get_running_loop())

    async with connection.pipeline(transaction=True) as pipe:
        for message in messages:
            arguments = {"a": [str(message.id)], "k": {}}
            job = json.dumps({"f": message.name, **arguments, "t": None, "et": now})
            # Not the task's: ARQ ignores a job whose id it remembers.
            job_id = uuid4().hex
            score = now - message.priority * PRIORITY_STEP
            pipe.psetex(job_key_prefix + job_id, JOB_EXPIRY, job)
            pipe.zadd(QUEUE_KEY_PREFIX + message.queue, {job_id: score})
        await pipe.execute()


async def publish(messages: Sequence[Message]) -> None:
    """Hand messages to Redis.

    Raises what its client raises, or TimeoutError, if it does not confirm all in time.
    """
    async with asyncio.timeout(PUBLISH_SECONDS):
        await _send(messages)


async def _count(queue: str) -> int:
    connection = _connection(asyncio.get_running_loop())
    jobs = int(await connection.zcard(QUEUE_KEY_PREFIX + queue))
    # ARQ keeps those that a worker has begun at the head, locked by a key each.
    head: list[bytes] = await connection.zrange(QUEUE_KEY_PREFIX + queue, 0, HEAD - 1)
    locks = [in_progress_key_prefix.encode() + job_id for job_id in head]
    return jobs - (int(await connection.exists(*locks)) if locks else 0)


async def depth(queue: str) -> int:
    """Count the messages of a queue that no worker has fetched.

    Raises what the client raises, or TimeoutError, if Redis does not answer in time.
    """
    async with asyncio.timeout(PUBLISH_SECONDS):
        return await _count(queue)


if __name__ == "__main__":
    import uvloop  # Not at the top: Windows, where no worker runs, has none.

    if settings.broker_url is None:
        sys.exit(
            "BROKER_URL is not set: the API runs its tasks itself, without a worker"
        )
    for queue in sys.argv[1:]:
        if queue not in queues():
            sys.exit(f"no task declares the queue {queue!r}; known: {sorted(queues())}")

    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # It writes two lines for each task otherwise.
    logging.getLogger("arq.worker").setLevel(logging.WARNING)
    uvloop.run(main(sys.argv[1:] or sorted(queues())))
