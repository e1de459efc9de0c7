"""Let processes stop where the model wants, around the project's own code.

A process is an event loop of its own as far as the code can tell: with a keeper of its
leases, and with senders of its statements.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from sqlalchemy import text

from app.database import database_engine
from app.delivery import (
    TaskContext,
    due,
    execution,
    leases,
    ledger,
    must_happen,
    relay,
    statements,
    worker,
)
from app.delivery.messages import Message

from .faults import Connection, Fault, Unreachable, fuse

HANGS_SECONDS = 60

Key = tuple[UUID, int]
"""A task and one of its attempts."""

loop = asyncio.new_event_loop()
# Whoever died leaves unread exceptions behind.
loop.set_exception_handler(lambda *_: None)
asyncio.set_event_loop(loop)


class TaskFailed(Exception):  # noqa: N818
    """What the model's tasks raise."""


class Hangs(Exception):  # noqa: N818
    """A process neither ends nor waits for an order."""


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
    when_stopped: str = "stops"
    """What it does of a cancellation that comes while it waits."""


class Body:
    """A task's function, which waits for a deed."""

    def __init__(self, context: TaskContext) -> None:
        self.context = context
        self.when_stopped = "stops"
        self.has_effect = False
        self.order: asyncio.Future[Deed] = loop.create_future()


class Seen(NamedTuple):
    """What a process has asked the ledger, and what it was told."""

    name: str
    asked: Any
    answer: Any = None


class Process:
    """Work that goes on only when it is told to."""

    def __init__(self) -> None:
        self.loop = _Loop(self)
        self.heart: Callable[[], object] | None = None
        """The timer of its keeper."""
        self.bodies: dict[Key, Body] = {}
        self.held: set[Key] = set()
        """The attempts that it was given, and that it has not ended yet."""
        self.seen: list[Seen] = []
        self.connections: list[Connection] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._jobs: list[asyncio.Task[Any]] = []
        self._parked: dict[asyncio.Task[Any], asyncio.Future[Any]] = {}
        self._still: asyncio.Future[None] | None = None
        self._errors: list[BaseException] = []

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return all(task.done() for task in self._tasks)

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin something that a signal cancels; `settle` lets it go on."""
        self._jobs.append(self._spawn(work))

    def shut_down(self) -> None:
        """Let everything end, as a signal does."""
        for job in self._jobs:
            job.cancel()

    def settle(self) -> None:
        """Let it go on until it stands still, or until it is dead."""
        fuse.shut_down = self.shut_down
        still = self._still = loop.create_future()
        watch = loop.call_later(HANGS_SECONDS, self._hang)
        self.look()
        try:
            loop.run_until_complete(still)
        finally:
            watch.cancel()

        if fuse.is_dead:
            self.die()
        self._forget_what_is_done()

    def die(self) -> None:
        """Let nothing of it go on."""
        fuse.is_dead = True
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.wait(pending))

        for connection in self.connections:
            connection.terminate()
        self._forget_what_is_done()

    def leave(self) -> None:
        """Give back what others may use."""
        _open_connections.extend(
            connection.real
            for connection in self.connections
            if not connection.is_closed()
        )
        self.connections.clear()

    def failures(self) -> list[BaseException]:
        """Return what it raised, unless the model has brought it about."""
        errors, self._errors = self._errors, []
        return errors

    async def park(self, order: asyncio.Future[Any]) -> Any:
        """Stand still until an order comes."""
        task = asyncio.current_task()
        assert task is not None
        self._parked[task] = order
        self.look()
        try:
            return await order
        finally:
            del self._parked[task]

    def look(self, _: object = None) -> None:
        """Look whether it stands still."""
        if self._still and not self._still.done():
            moving = (
                task
                for task in self._tasks
                if not task.done()
                and (task not in self._parked or self._parked[task].done())
            )
            if not any(moving):
                self._still.set_result(None)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Count what one of its tasks has begun."""
        self._tasks.append(task)
        task.add_done_callback(self.look)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        with self._acting():
            return loop.create_task(work)

    @contextlib.contextmanager
    def _acting(self) -> Iterator[None]:
        token = _process.set(self)
        try:
            yield
        finally:
            _process.reset(token)

    def _hang(self) -> None:
        if self._still and not self._still.done():
            self._still.set_exception(Hangs(repr(self._tasks)))

    def _forget_what_is_done(self) -> None:
        for task in self._tasks:
            if not task.done() or task.cancelled():
                continue
            error = task.exception()
            if isinstance(error, Exception) and not _is_expected(error):
                self._errors.append(error)

        self._tasks = [task for task in self._tasks if not task.done()]
        self._jobs = [job for job in self._jobs if not job.done()]


_process: ContextVar[Process | None] = ContextVar("_process", default=None)
_open_connections: list[Any] = []


class Worker(Process):
    """Executes messages, and what is due; its bodies and its heart obey orders."""

    def __init__(self) -> None:
        super().__init__()
        self._worker: worker.Worker | None = None
        self._starting: asyncio.Task[None] | None = None

    def execute(self, task_id: UUID) -> None:
        """Begin to execute a message."""
        self.begin(execution.execute(task_id))

    def start_due(self) -> None:
        """Begin to start what is due, as a worker without a broker does."""
        self._starting = self._spawn(self._start_due())

    async def _start_due(self) -> None:
        self._worker = self._worker or worker.Worker(None)
        self._worker.may_find = True
        try:
            await self._worker.start_due()
        except asyncio.CancelledError:
            await self._worker.drain()
            raise

    def shut_down(self) -> None:
        """Give everything back, as at a signal."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        elif self._worker is not None:
            self._spawn(self._worker.drain())
        self.give_back()

    def give_back(self) -> None:
        """Give back what runs."""
        with self._acting():
            leases.keeper().give_back()

    def cancel(self, key: Key) -> None:
        """Cancel the asyncio task that runs an attempt, as an engine may."""
        order = self.bodies[key].order
        [task] = [task for task, parked in self._parked.items() if parked is order]
        task.cancel()

    def order(self, key: Key, deed: Deed) -> None:
        """Tell the function of an attempt what to do."""
        self.bodies[key].when_stopped = deed.when_stopped
        self.bodies[key].order.set_result(deed)

    def beat(self) -> None:
        """Let the timer of its keeper fire."""
        heart, self.heart = self.heart, None
        if heart:
            with self._acting():
                heart()

    async def play(self, context: TaskContext) -> str:
        """Be the task's function."""
        key = (context.id, context.attempt)
        body = self.bodies[key] = Body(context)
        try:
            while True:
                try:
                    deed: Deed = await self.park(body.order)
                except asyncio.CancelledError:
                    if body.when_stopped == "raises":
                        raise TaskFailed from None
                    if body.when_stopped == "returns":
                        return _outcome(body)
                    raise

                body.order = loop.create_future()
                await _do(deed, body)
                if deed.end is not None:
                    return _outcome(body)
        finally:
            self.bodies.pop(key, None)


async def _do(deed: Deed, body: Body) -> None:
    context = body.context
    if deed.effect and not body.has_effect:
        body.has_effect = True
        await write(context.session, "effect", context.id, context.attempt)
    if deed.child:
        child = await context.enqueue(patient)
        await write(context.session, "request", child.id)

    if deed.end == "raises":
        raise TaskFailed
    if deed.end == "raises CancelledError":
        raise asyncio.CancelledError


def _outcome(body: Body) -> str:
    return "effect" if body.has_effect else "none"


class Relay(Process):
    """Publishes, or looks for what was lost; one that parks stops before the broker."""

    def __init__(
        self,
        due_tasks: due.DueTasks | None,
        *,
        parks: bool,
        answer: Answer,
        counts_late: bool = False,
    ) -> None:
        super().__init__()
        self.publishes = due_tasks is not None
        self.parks = parks
        self.answer = answer
        self.counts_late = counts_late
        self.on_its_way: Sequence[Message] = ()
        """What it is about to publish."""
        self.question: asyncio.Future[Answer] = loop.create_future()
        self.begin(relay.publish_due(due_tasks) if due_tasks else relay.find_lost())

    async def asked(self) -> Answer:
        """Wait for the broker's answer, if it does not come at once."""
        if not self.parks:
            return self.answer
        self.question = loop.create_future()
        answer: Answer = await self.park(self.question)
        return answer


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
        acting = _process.get()
        messages = sorted(messages, key=lambda message: (-message.priority, message.id))
        answer = Answer.ACCEPTED

        try:
            if isinstance(acting, Relay):
                acting.on_its_way = messages
                answer = await acting.asked()
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
                if isinstance(acting, Relay):
                    # Meanwhile, a worker may receive what was accepted.
                    await acting.asked()
                _refuse()
        except BaseException:
            if not fuse.is_dead:  # They are given back, whatever has arrived.
                self.reasons += len(messages)
            raise
        finally:
            if isinstance(acting, Relay):
                acting.on_its_way = ()

    def _accept(self, messages: Sequence[Message]) -> None:
        self.waiting += messages
        self.carried += messages
        self.published += len(messages)

    async def depth(self, queue: str) -> int:
        """Count messages, before or after the answer has been on its way."""
        acting = _process.get()
        depth = self._depth(queue)
        if isinstance(acting, Relay):
            if await acting.asked() is Answer.REFUSED:
                raise Unreachable
            if acting.counts_late:
                depth = self._depth(queue)
        return depth

    def _depth(self, queue: str) -> int:
        return sum(message.queue == queue for message in self.waiting)


class _Loop:
    """The event loop as the code of a process sees it: its timer waits for an order."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(loop, name)

    def call_later(self, _: float, work: Callable[[], object]) -> object:
        """Keep what the keeper wants to do later."""
        self._process.heart = work
        return self


class _Asyncio:
    """The module `asyncio`, with a loop for each process, in which no time passes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def get_running_loop(self) -> Any:
        """Return the loop of the process that acts."""
        process = _process.get()
        return process.loop if process else loop

    def create_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Create a task, also from a timer."""
        return loop.create_task(work)

    async def sleep(self, _: float) -> None:
        """Go on at once."""
        return


class Clock:
    """The module `time`, whose time passes as the model wants."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Return seconds since some moment, a little more each time."""
        self.ahead += 0.005
        return self.ahead


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
    acting = _process.get()
    assert isinstance(acting, Worker)
    return await acting.play(task)


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
    process = Process()
    process.begin(work)
    process.settle()
    process.leave()
    fuse.reset()
    for error in process.failures():
        raise error


def _make_task(
    _: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    if process := _process.get():
        process.add(task)
    return task


def _witness(name: str) -> None:
    """See what processes ask one of the ledger's functions, and what it answers."""
    function = getattr(ledger, name)

    async def see(*args: Any) -> Any:
        process = _process.get()
        assert process is not None
        if name == "renew":
            process.seen.append(Seen(name, args[0]))
            return await function(*args)

        asked = list(args[0]) if name == "claim" else args[0]
        answer = await function(asked, *args[1:])
        process.seen.append(Seen(name, asked, answer))
        if name == "claim":
            process.held.update((each.id, each.attempt) for each in answer)
        return answer

    setattr(ledger, name, see)


async def _connect() -> Connection:
    process = _process.get()
    assert process is not None
    fuse.burn()
    while _open_connections and _open_connections[-1].is_closed():
        _open_connections.pop()
    real = _open_connections.pop() if _open_connections else await _really_connect()
    connection = Connection(real)
    process.connections.append(connection)
    return connection


_really_connect = statements.connect
clock = Clock()


def set_the_stage() -> tuple[Broker, Overheard]:
    """Put the stand-ins in the places of what they stand in for."""
    broker, overheard = Broker(), Overheard()
    make_task: Any = _make_task
    loop.set_task_factory(make_task)
    modules: list[Any] = [execution, leases, statements, worker]
    for module in modules:
        module.asyncio = _Asyncio()
    for module in [due, worker]:
        module.time = clock
    look: Any = cache(due._look)  # noqa: SLF001 - it takes longer than to execute it
    due._look = look  # noqa: SLF001
    stand_in: Any = broker
    relay.engine = stand_in
    connect: Any = _connect
    statements.connect = connect
    for name in ("claim", "renew", "succeed", "fail"):
        _witness(name)

    logging.getLogger("app").addHandler(overheard)
    logging.getLogger("app").propagate = False
    fuse.attach(database_engine.sync_engine.dialect)
    return broker, overheard
