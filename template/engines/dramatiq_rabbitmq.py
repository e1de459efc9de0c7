"""Dramatiq on RabbitMQ, so that a recorded task reaches a worker and only its id travels.

What is lost, late or delivered twice is put right by the ledger; Dramatiq's own retries, delays
and results are not used.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from multiprocessing import current_process
from threading import Event, Thread
from types import FrameType
from typing import Any, TypeVar
from uuid import UUID

import dramatiq
import pika
from dramatiq.asyncio import get_event_loop_thread
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import q_name
from dramatiq.encoder import JSONEncoder, MessageData
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import AsyncIO, Middleware, TimeLimit
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import ChannelClosedByBroker
from pydantic import BaseModel, ValidationError

from app.database import engine as database
from app.delivery.definitions import must_happen_tasks, queues
from app.delivery.execution import execute
from app.delivery.ledger import Message
from app.settings import settings

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

PUBLISH_SECONDS = 1.5
"""How long `publish` and `depth` take at most, whatever RabbitMQ does."""

TIME_LIMIT_MARGIN = 15.0
"""Seconds after a task's own time limit at which Dramatiq frees the thread that waits for it."""

THREADS = 4
"""How many threads publish, each over a connection of its own (pika's are not shared)."""

NOT_FOUND = 404
"""AMQP's reply code for a queue that does not exist."""

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
        """Turn what is not an envelope into one that belongs to no queue."""
        try:
            return Envelope.model_validate_json(data).model_dump()
        except ValidationError:
            return {
                "queue_name": "",
                "actor_name": "malformed",
                "args": [data],
                "kwargs": {},
                "options": {},
            }


class TaskConsumer(_RabbitmqConsumer):
    """A consumer that survives, and dead-letters, what is not a message for its queue."""

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Return the next message that is well-formed and belongs to this queue."""
        message: dramatiq.MessageProxy | None = super().__next__()
        if message is None or message.queue_name == self.queue_name:
            return message
        logger.error("Dead-lettered a message from %s: %.80s", self.queue_name, message)
        self.nack(message)
        return None


class TaskBroker(RabbitmqBroker):
    """Dramatiq's broker, except that it drops neither messages nor queues."""

    def get_actor(self, actor_name: str) -> dramatiq.Actor[..., Any]:
        """Leave unknown names to the ledger: the API may be newer than this worker."""
        return self.actors.get(actor_name) or self.actors[UNKNOWN]

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> TaskConsumer:
        """Start a consumer, declaring its queue anew: it may have been deleted meanwhile."""
        self.queues_pending.add(q_name(queue_name))
        try:
            self.declare_queue(queue_name, ensure=True)
            return TaskConsumer(self, queue_name, prefetch, timeout)
        except AMQPConnectorException as error:  # To Dramatiq it would be a bug, with a traceback.
            raise ConnectionClosed(error) from None


class WorkerProcess(Middleware):
    """What a worker's process needs beyond Dramatiq's own beginning and end."""

    def __init__(self) -> None:
        self.stopped = Event()

    def after_process_boot(self, broker: dramatiq.Broker) -> None:
        """Refuse to run without a broker; take a signal to the whole process group only once."""
        if settings.broker_url is None:
            first = current_process().name == "Process-1"  # One of them speaks for all.
            sys.exit("BROKER_URL is not set, so this worker has nothing to work on" if first else 1)
        terminate = signal.getsignal(signal.SIGTERM)

        def terminate_once(number: int, frame: FrameType | None) -> None:
            # It comes from the sender and from the master; Dramatiq would hang at the second.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if callable(terminate):
                terminate(number, frame)

        signal.signal(signal.SIGTERM, terminate_once)

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Begin to watch the event loop, which `AsyncIO` has just started."""
        # What is not fetched ahead is still ordered by priority, and free for other workers.
        worker.queue_prefetch = worker.worker_threads
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


def _parameters() -> pika.URLParameters:
    parameters = pika.URLParameters(settings.broker_url or "amqp://")
    parameters.heartbeat = 5
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = 1
    parameters.blocked_connection_timeout = 1
    return parameters


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
logging.getLogger("pika").setLevel(logging.CRITICAL)  # What fails here is raised as well.
broker = TaskBroker(
    # Classic durable queues: Dramatiq 2.2 cannot declare replicated ones (dramatiq#871), which
    # would also refuse priorities. What a lost node held is published again by the relay.
    confirm_delivery=True,
    max_priority=9,
    # Not Retries, AgeLimit, Callbacks, Pipelines (the ledger's part), ShutdownNotifications (a
    # stopping worker finishes its tasks), Prometheus (opens ports). The last one ends first.
    middleware=[AsyncIO(), TimeLimit(), WorkerProcess()],
)
broker.parameters = _parameters()
dramatiq.set_broker(broker)
for _queue in queues():
    broker.declare_queue(_queue)
for _task in must_happen_tasks().values():
    # A queue delivers by the message's priority, higher first; Dramatiq orders what a process has
    # fetched by the task's own, lower first.
    dramatiq.actor(
        actor_name=_task.name,
        queue_name=_task.queue,
        priority=9 - _task.priority,
        time_limit=(_task.time_limit + TIME_LIMIT_MARGIN) * 1000,
    )(_run)
dramatiq.actor(actor_name=UNKNOWN, priority=9)(_run)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="publish")


os.register_at_fork(after_in_child=_threads.cache_clear)


async def _bounded(call: Callable[..., Answer], *args: object) -> Answer:
    async with asyncio.timeout(PUBLISH_SECONDS):
        return await asyncio.get_running_loop().run_in_executor(_threads(), call, *args)


def _publish(messages: Sequence[Message]) -> None:
    for message in messages:
        options = {"broker_priority": message.priority}
        broker.enqueue(
            dramatiq.Message(message.queue, message.name, (str(message.id),), {}, options)
        )


async def publish(messages: Sequence[Message]) -> None:
    """Hand the messages to RabbitMQ and wait until it confirms them.

    Raises:
        ConnectionClosed: RabbitMQ refuses.
        TimeoutError: it did not confirm all of them within 1.5 s (it may have taken some).
    """
    # A confirmation takes about a millisecond, so that connections share what is many.
    shares = [messages[share::THREADS] for share in range(min(THREADS, len(messages)))]
    await asyncio.gather(*(_bounded(_publish, share) for share in shares))


def _depth(queue: str) -> int:
    with closing(pika.BlockingConnection(broker.parameters)) as connection:
        try:
            declared = connection.channel().queue_declare(queue, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return 0
            raise
        return int(declared.method.message_count)


async def depth(queue: str) -> int:
    """Count the messages that wait in the queue, without those that a worker has fetched.

    Raises:
        AMQPError, TimeoutError: as `publish`.
    """
    return await _bounded(_depth, queue)
