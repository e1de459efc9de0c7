"""Dramatiq on Redis, so that a recorded task reaches a worker and only its id travels.

What is lost, late or delivered twice is put right by the ledger; Dramatiq's own retries, delays
and results are not used.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import current_process
from threading import Event, Thread
from types import FrameType
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
import redis
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.encoder import JSONEncoder, MessageData
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.middleware import AsyncIO, Middleware, TimeLimit
from pydantic import BaseModel
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.database import engine as database
from app.delivery.definitions import must_happen_tasks, queues
from app.delivery.execution import execute
from app.delivery.ledger import Message
from app.settings import settings

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

PUBLISH_SECONDS = 1.5
"""How long `publish` and `depth` take at most, whatever Redis does."""

TIME_LIMIT_MARGIN = 15.0
"""Seconds after a task's own time limit at which Dramatiq frees the thread that waits for it."""

GIVE_BACK_SECONDS = 5.0
"""How long an execution that is stopped by a shutdown may take to give its task back."""

UNKNOWN = "unknown_task"
"""The actor of messages whose task this release of the code does not know."""


class Envelope(BaseModel):
    """What a message must be: Dramatiq trusts the types, and a wrong one ends a worker thread."""

    queue_name: str
    actor_name: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


class EnvelopeEncoder(JSONEncoder):
    """JSON in the shape of an envelope."""

    def decode(self, data: bytes) -> MessageData:
        """Refuse, with an error, what is not an envelope that can be acknowledged."""
        fields = Envelope.model_validate_json(data).model_dump()
        UUID(fields["options"]["redis_message_id"])
        return fields


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Dramatiq starts again after a lost connection only; to it, a timeout would be a bug."""
    try:
        yield
    except redis.RedisError as error:
        raise ConnectionClosed(error) from None


class TaskConsumer(_RedisConsumer):
    """A consumer that outlives malformed messages, timeouts and errors of the server."""

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Return the next message that is well-formed and belongs to this queue."""
        with _connection_errors():
            try:
                message: dramatiq.MessageProxy | None = super().__next__()
                if message is None or message.queue_name == self.queue_name:
                    return message
                self.nack(message)
                logger.error("Dropped a message from %s: not its queue", self.queue_name)
            except DecodeError as error:
                # Only a well-formed message tells its own key.
                contents = f"dramatiq:{self.queue_name}.msgs"
                for key in self.broker.unacknowledged(self.queue_name):
                    if self.broker.client.hget(contents, key) == error.data:
                        self.broker.do_nack(self.queue_name, key)
                logger.error("Dropped a message from %s: %.80r", self.queue_name, error.data)
        return None

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Acknowledge the message."""
        with _connection_errors():
            super().ack(message)


class TaskBroker(RedisBroker):
    """Dramatiq's broker, except that it neither drops nor forgets messages."""

    def get_actor(self, actor_name: str) -> dramatiq.Actor[..., Any]:
        """Leave unknown names to the ledger: the API may be newer than this worker."""
        return self.actors.get(actor_name) or self.actors[UNKNOWN]

    def unacknowledged(self, queue_name: str) -> list[bytes]:
        """Return the keys of the messages that this process has fetched and not acknowledged."""
        return list(self.client.smembers(f"dramatiq:__acks__.{self.broker_id}.{queue_name}"))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> TaskConsumer:
        """Start a consumer and give back what the one before it had fetched and lost.

        It would otherwise wait until this process ends (dramatiq#527). What runs already is
        delivered twice by this, and turned away by the ledger.
        """
        with _connection_errors():
            if keys := self.unacknowledged(queue_name):
                self.do_requeue(queue_name, *keys)
        return TaskConsumer(self, queue_name, prefetch, timeout)


class WorkerProcess(Middleware):
    """What a worker's process needs beyond Dramatiq's own beginning and end."""

    def __init__(self) -> None:
        self.stopped = Event()

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        """Refuse to run without a broker; take a signal to the whole process group only once."""
        first = current_process().name == "Process-1"  # One of them speaks for all.
        if settings.broker_url is None:
            sys.exit("BROKER_URL is not set, so this worker has nothing to work on" if first else 1)
        if first:
            _warn_of_unsafe_settings()
        terminate = signal.getsignal(signal.SIGTERM)

        def terminate_once(number: int, frame: FrameType | None) -> None:
            # It comes from the sender and from the master; Dramatiq would hang at the second.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if callable(terminate):
                terminate(number, frame)

        signal.signal(signal.SIGTERM, terminate_once)

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Begin to watch the event loop, which `AsyncIO` has just started."""
        Thread(target=self._watch, daemon=True).start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Give back what has not ended in time, while the event loop still runs."""
        if thread := get_event_loop_thread():
            thread.run_coroutine(_give_back())
        self.stopped.set()

    def _watch(self) -> None:
        """End a process whose event loop hangs: its leases are gone, its other tasks stuck."""
        while not self.stopped.wait(1):
            try:
                if (thread := get_event_loop_thread()) is None:
                    raise TimeoutError
                answer = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), thread.loop)
                answer.result(settings.lease_seconds)
            except TimeoutError:
                logger.critical("The event loop hangs: this process ends, another takes its tasks")
                os._exit(1)


def _warn_of_unsafe_settings() -> None:
    try:
        if broker.client.info("replication")["role"] != "master":
            logger.warning("Redis is a replica, which takes no messages")
        for name, safe in (("appendonly", "yes"), ("maxmemory-policy", "noeviction")):
            if (value := broker.client.config_get(name).get(name)) != safe:
                logger.warning("Redis has %s %s: set %s, or messages get lost", name, value, safe)
    except redis.RedisError as error:
        logger.info("The settings of Redis could not be read: %s", error)


async def _give_back() -> None:
    unfinished = asyncio.all_tasks() - {asyncio.current_task()}
    for task in unfinished:
        task.cancel()
    if unfinished:
        await asyncio.wait(unfinished, timeout=GIVE_BACK_SECONDS)
    await database.dispose()


async def _run(*args: object, **kwargs: object) -> None:
    try:
        (task_id,) = (UUID(str(argument)) for argument in [*args, *kwargs])
    except ValueError:
        logger.error("Dropped a message that is not one task's id: %.80r %.80r", args, kwargs)
    else:
        with suppress(asyncio.CancelledError):  # By then it has given its task back.
            await execute(task_id)


dramatiq.set_encoder(EnvelopeEncoder())
broker = TaskBroker(
    # No call blocks inside Redis, so a slow one has failed; what is asked again asks later.
    client=redis.Redis.from_url(
        settings.broker_url or "redis://",
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
    ),
    # Messages of a worker that is silent for 15 s go to others. Every second command looks for
    # such workers; at Dramatiq's own figures, 60 s and one in a thousand, it took minutes.
    heartbeat_timeout=15_000,
    maintenance_chance=500_000,
    # Not Retries, AgeLimit, Callbacks, Pipelines (the ledger's part), ShutdownNotifications (a
    # stopping worker finishes its tasks), Prometheus (opens ports). The last one ends first.
    middleware=[AsyncIO(), TimeLimit(), WorkerProcess()],
)
dramatiq.set_broker(broker)
for _queue in queues():
    broker.declare_queue(_queue)
for _task in must_happen_tasks().values():
    # A list in Redis knows no priorities: a task's own orders what a process has fetched (lower
    # runs sooner), that of a single message only the batch it is published in.
    dramatiq.actor(
        actor_name=_task.name,
        queue_name=_task.queue,
        priority=9 - _task.priority,
        time_limit=(_task.time_limit + TIME_LIMIT_MARGIN) * 1000,
    )(_run)
dramatiq.actor(actor_name=UNKNOWN, priority=9)(_run)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="publish")


os.register_at_fork(after_in_child=_threads.cache_clear)


async def _bounded(call: Callable[..., Answer], *args: object) -> Answer:
    async with asyncio.timeout(PUBLISH_SECONDS):
        return await asyncio.get_running_loop().run_in_executor(_threads(), call, *args)


def _publish(messages: Sequence[Message]) -> None:
    for message in sorted(messages, key=lambda message: -message.priority):
        broker.enqueue(dramatiq.Message(message.queue, message.name, (str(message.id),), {}, {}))


async def publish(messages: Sequence[Message]) -> None:
    """Hand the messages to Redis.

    Raises:
        RedisError: Redis refuses, or does not answer within a second.
        TimeoutError: it did not take all of them within 1.5 s (it may have taken some).
    """
    await _bounded(_publish, messages)


def _depth(queue: str) -> int:
    return int(broker.client.llen(f"dramatiq:{queue}"))


async def depth(queue: str) -> int:
    """Count the messages that wait in Redis, without those that a worker has fetched.

    Raises:
        RedisError, TimeoutError: as `publish`.
    """
    return await _bounded(_depth, queue)
