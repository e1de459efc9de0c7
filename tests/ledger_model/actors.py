"""Let workers and relays stop where the model wants, around the project's own code."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from sqlalchemy import text

from app.database import database_engine
from app.delivery import TaskContext, execution, must_happen, relay
from app.delivery.ledger import Claim, Message

from .faults import Fault, Unreachable, fuse

loop = asyncio.new_event_loop()
# Whoever died leaves unread exceptions behind.
loop.set_exception_handler(lambda *_: None)
asyncio.set_event_loop(loop)


class TaskFailed(Exception):  # noqa: N818
    """What the model's tasks raise."""


class Answer(StrEnum):
    """What becomes of a message on its way to the broker, or of a question to it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    HALF = "the first half accepted, then refused"
    UNCONFIRMED = "accepted, but the confirmation is lost"
    DIES_BEFORE = "the relay dies before it"
    DIES_AFTER = "the relay dies after it"


class Deed(NamedTuple):
    """What a task's function does next; without an end it waits for the next deed."""

    effect: bool = False
    child: bool = False
    end: str | None = None


class Actor:
    """A process's work, which goes on only when it is told to."""

    needed: frozenset[str] = frozenset()
    """Where it stands when it stands still."""

    answer = Answer.ACCEPTED
    """What the broker will say to it."""

    on_its_way: Sequence[Message] = ()
    """What it is about to publish."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._orders: dict[str, asyncio.Future[Any]] = {}
        self._settled = loop.create_future()
        token = _actor.set(self)
        self.task = loop.create_task(work())
        _actor.reset(token)
        self.task.add_done_callback(lambda _: self._look())

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.task.done()

    def start(self) -> None:
        """Begin, and go on until it stands still."""
        loop.run_until_complete(self._settled)

    def go(self, where: str, order: object = None) -> None:
        """Give an order to what stands there, and go on until it stands still again."""
        self._settled = loop.create_future()
        self._orders.pop(where).set_result(order)
        loop.run_until_complete(self._settled)

    def end(self, *, dies: bool) -> None:
        """End it: by a death, or by a cancellation as at a shutdown."""
        if not self.task.done():
            fuse.is_dead = fuse.is_dead or dies
            self._settled = loop.create_future()
            self.task.cancel()
            loop.run_until_complete(asyncio.wait({self.task}))

    async def asked(self) -> Answer:
        """Wait for the broker's answer."""
        return self.answer

    def failure(self) -> BaseException | None:
        """What it raised, unless the model has brought it about."""
        if not self.task.done() or self.task.cancelled():
            return None
        error = self.task.exception()
        return (
            error if isinstance(error, Exception) and not _is_expected(error) else None
        )

    def parking(self, where: str) -> asyncio.Future[Any]:
        """Stand still until an order comes."""
        order = self._orders[where] = loop.create_future()
        self._look()
        return order

    def _look(self) -> None:
        if not self._settled.done() and (
            self.task.done() or self.needed <= self._orders.keys()
        ):
            self._settled.set_result(None)


_actor: ContextVar[Actor | None] = ContextVar("_actor", default=None)


class Worker(Actor):
    """Executes one message, or what was claimed; its body and heart beat by order."""

    needed = frozenset({"heart", "body"})

    def __init__(self, task_id: UUID, claim: Claim | None = None) -> None:
        self.task_id = task_id
        self.attempt = claim.attempt if claim else 0
        self._body: asyncio.Task[Any] | None = None
        super().__init__(
            lambda: (
                execution.run_attempt(claim) if claim else execution.execute(task_id)
            )
        )

    def bury(self) -> None:
        """After a death in the middle: let nothing of it go on."""
        if self.task.done() and self._body is not None and not self._body.done():
            fuse.is_dead = True
            self._body.cancel()
            loop.run_until_complete(asyncio.wait({self._body}))

    async def play(self, context: TaskContext) -> str:
        """Be the task's function."""
        self._body = asyncio.current_task()
        self.attempt = context.attempt
        has_effect = False

        while True:
            deed = await self.parking("body")
            if deed.effect and not has_effect:
                has_effect = True
                await write(context.session, "effect", context.id, context.attempt)
            if deed.child:
                child = await context.enqueue(patient)
                await write(context.session, "request", child.id)
            if deed.end == "raises":
                raise TaskFailed
            if deed.end == "raises CancelledError":
                raise asyncio.CancelledError
            if deed.end is not None:
                return "effect" if has_effect else "none"


class Relay(Actor):
    """Publishes, or looks for what was lost; one that parks stops before the broker."""

    needed = frozenset({"broker"})

    def __init__(
        self, *, publishes: bool, parks: bool, answer: Answer, counts_late: bool = False
    ) -> None:
        self.publishes = publishes
        self.parks = parks
        self.answer = answer
        self.counts_late = counts_late
        super().__init__(relay.publish_due if publishes else relay.find_lost)

    async def asked(self) -> Answer:
        """Wait for the broker's answer, if it does not come at once."""
        return await self.parking("broker") if self.parks else self.answer


class Broker:
    """A list in place of a broker, with an engine's two functions for one."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.carried: list[Message] = []
        self.published = 0
        self.reasons = 0
        """How many messages there may be: one for each time that a task needs one."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Take messages, or fail to."""
        actor = _actor.get()
        messages = sorted(messages, key=lambda message: (-message.priority, message.id))
        answer = Answer.ACCEPTED

        try:
            if actor:
                actor.on_its_way = messages
                answer = await actor.asked()
            if answer is Answer.DIES_BEFORE:
                fuse.die()
            if answer is Answer.REFUSED:
                _refuse()

            self._accept(
                messages[: len(messages) // 2] if answer is Answer.HALF else messages
            )
            if answer is Answer.DIES_AFTER:
                fuse.die()
            if answer is not Answer.ACCEPTED:
                if actor:
                    # Meanwhile, a worker may receive what was accepted.
                    await actor.asked()
                _refuse()
        except BaseException:
            if not fuse.is_dead:  # They are given back, whatever has arrived.
                self.reasons += len(messages)
            raise
        finally:
            if actor:
                actor.on_its_way = ()

    def _accept(self, messages: Sequence[Message]) -> None:
        self.waiting += messages
        self.carried += messages
        self.published += len(messages)

    async def depth(self, queue: str) -> int:
        """Count messages, before or after the answer has been on its way."""
        actor = _actor.get()
        depth = self._depth(queue)
        if isinstance(actor, Relay):
            if await actor.asked() is Answer.REFUSED:
                raise Unreachable
            if actor.counts_late:
                depth = self._depth(queue)
        return depth

    def _depth(self, queue: str) -> int:
        return sum(message.queue == queue for message in self.waiting)


class _Asyncio:
    """The module `asyncio` for `execute`, whose heart beats when the model wants."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def wait(
        self,
        tasks: set[asyncio.Task[Any]],
        timeout: float | None = None,
        return_when: str = asyncio.ALL_COMPLETED,
    ) -> None:
        worker = _actor.get()
        if timeout is None or worker is None:
            await asyncio.wait(tasks, return_when=return_when)
            return

        beat = worker.parking("heart")
        [attempt] = tasks
        attempt.add_done_callback(
            lambda _: None if beat.done() else beat.set_result(None)
        )
        await beat

    async def sleep(self, _: float) -> None:
        return


class Overheard(logging.Handler):
    """Keeps the unexpected errors that the project's code has only logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look for exceptions among what is logged."""
        said = [*(record.args or ()), record.exc_info and record.exc_info[1]]
        self.errors += [
            e for e in said if isinstance(e, Exception) and not _is_expected(e)
        ]


def _refuse() -> NoReturn:
    raise Unreachable


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, (Unreachable, TaskFailed, LookupError))


async def write(
    session: Any, kind: str, task_id: UUID, attempt: int | None = None
) -> None:
    """Write something beside the ledger, in the transaction of the session."""
    values = {"kind": kind, "task_id": str(task_id), "attempt": attempt}
    await session.execute(
        text("INSERT INTO model_writes VALUES (:kind, :task_id, :attempt)"), values
    )


async def _play(task: TaskContext) -> str:
    worker = _actor.get()
    assert isinstance(worker, Worker)
    return await worker.play(task)


@must_happen(max_attempts=3, retry_delay=20)
async def patient(task: TaskContext) -> str:
    """Do what the model says, with several attempts."""
    return await _play(task)


@must_happen(max_attempts=1, queue="other", priority=5)
async def single(task: TaskContext) -> str:
    """Do what the model says, with one attempt, in a queue of its own."""
    return await _play(task)


stranger = dataclasses.replace(
    patient, name="of_another_release", queue="of_another_release"
)
"""A task that this release's workers do not know, in a queue unknown to them too."""


def act(work: Coroutine[Any, Any, object], fault: Fault | None) -> None:
    """Do something as a process of its own, that may fail as the model wishes."""
    fuse.reset(fault)
    try:
        loop.run_until_complete(work)
    except (Unreachable, asyncio.CancelledError):
        pass
    except BaseException:
        if not fuse.is_dead:
            raise
    finally:
        fuse.reset()


def set_the_stage() -> tuple[Broker, Overheard]:
    """Put the stand-ins in the places of what they stand in for."""
    broker, overheard = Broker(), Overheard()
    stand_in: Any = _Asyncio()
    execution.asyncio = stand_in
    delivery: Any = __import__("app.delivery").delivery
    delivery.engine = broker
    logging.getLogger("app").addHandler(overheard)
    logging.getLogger("app").propagate = False
    fuse.attach(database_engine.sync_engine.dialect)
    return broker, overheard
