"""Run tasks whose loss is only a pity: in this process, after the response, each on its own.

Starlette ends a request's background tasks with the first that raises, sets no bound on
their run time, and runs `def` tasks in the same threads as `def` routes. Here a failing
task does not touch its neighbours, every task has a time limit, and `def` tasks have a
thread of their own.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from queue import SimpleQueue
from typing import Annotated, Any, Generic, ParamSpec, overload
from weakref import WeakKeyDictionary

from prometheus_client import Counter
from pydantic import Field
from pydantic.dataclasses import dataclass

logger = logging.getLogger(__name__)

P = ParamSpec("P")

# How many `def` tasks of a process run at a time: each slows down its `def` routes.
THREADS = 1
# How many more may run on past their time limit until the next have to wait for them.
OVERDUE = 20

outcomes = Counter(
    "nice_to_have_tasks",
    "Nice-to-have tasks that ended, by name and outcome.",
    ["name", "outcome"],
)

_signature = cache(inspect.signature)
_places: WeakKeyDictionary[
    asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, asyncio.Semaphore]
] = WeakKeyDictionary()

# Where the threads without work wait for more. They are kept, because requests wait
# longer beside a thread that has just been started.
_idle_threads: deque[SimpleQueue[Callable[[], None]]] = deque()


@dataclass(frozen=True)
class NiceToHaveTask(Generic[P]):
    """A task that is lost when its process dies; hand it to `Tasks.enqueue`."""

    function: Callable[P, object]
    name: str
    max_attempts: Annotated[int, Field(ge=1)] = 1
    """How often it is tried, straight one after the other, while it raises."""
    time_limit: Annotated[float, Field(gt=0)] = 60
    """Seconds for all attempts together, the wait for a free thread included."""


Call = tuple[NiceToHaveTask[Any], Callable[[], Any]]
"""A task, and its function bound to the arguments of one enqueue."""


@overload
def nice_to_have(function: Callable[P, object], /) -> NiceToHaveTask[P]: ...


@overload
def nice_to_have(
    *, max_attempts: int = ..., time_limit: float = ...
) -> Callable[[Callable[P, object]], NiceToHaveTask[P]]: ...


def nice_to_have(function: Any = None, /, **options: Any) -> Any:
    """Declare a task that may be lost; its options are attributes of `NiceToHaveTask`.

    An `async def` task runs on the event loop, a `def` one in a thread. Raises
    ValueError if an option is out of its range.
    """
    if function is None:
        return partial(nice_to_have, **options)
    return NiceToHaveTask(function, function.__name__, **options)


def prepare(task: NiceToHaveTask[P], *args: P.args, **kwargs: P.kwargs) -> Call:
    """Bind a task to its arguments; TypeError if it is not a task or does not take these."""
    if not isinstance(task, NiceToHaveTask):
        what = getattr(task, "__name__", repr(task))
        raise TypeError(
            f"{what} is not a task: declare it with @nice_to_have or @must_happen"
        )
    _signature(task.function).bind(*args, **kwargs)
    return task, partial(task.function, *args, **kwargs)


async def run_calls(calls: list[Call]) -> None:
    """Run calls in order; a failing one is logged and counted and does not stop the next.

    A cancellation (the end of the server's grace period) drops the rest, each logged by
    name.
    """
    for position, (task, call) in enumerate(calls):
        try:
            async with asyncio.timeout(task.time_limit):
                await _run(task, call)
        except asyncio.CancelledError:
            for dropped, _ in calls[position:]:
                outcomes.labels(dropped.name, "dropped").inc()
                logger.warning("dropped %s: the process is shutting down", dropped.name)
            raise
        except (Exception, SystemExit):
            outcomes.labels(task.name, "failed").inc()
            logger.exception("%s failed", task.name)
        else:
            outcomes.labels(task.name, "succeeded").inc()


async def _run(task: NiceToHaveTask[Any], call: Callable[[], Any]) -> None:
    for attempt in range(1, task.max_attempts + 1):
        try:
            if inspect.iscoroutinefunction(task.function):
                await call()
            else:
                await _run_in_thread(call)
            return
        except asyncio.CancelledError as error:
            if (current := asyncio.current_task()) and current.cancelling():
                raise
            raise RuntimeError("the task raised CancelledError itself") from error
        except (Exception, SystemExit):
            if attempt == task.max_attempts:
                raise
            logger.warning("%s raised in attempt %d", task.name, attempt, exc_info=True)


async def _run_in_thread(call: Callable[[], Any]) -> None:
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    new_places = (asyncio.Semaphore(THREADS), asyncio.Semaphore(OVERDUE))
    place, overdue = _places.setdefault(loop, new_places)
    await place.acquire()
    future: Future[BaseException | None] = Future()
    future.set_running_or_notify_cancel()
    work_of_thread = _take_thread()

    def work() -> None:
        error: BaseException | None = None
        try:
            context.run(call)
        except BaseException as raised:
            error = raised
        _idle_threads.append(work_of_thread)
        future.set_result(error)
        # The loop is closed: the process is ending.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(leave)

    def leave() -> None:  # Which place, is decided in the event loop only.
        place.release()

    work_of_thread.put(work)
    try:
        error = await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        # A thread cannot be stopped: past its time limit it runs on, beside the next
        # one.
        if not future.done() and not overdue.locked():
            await overdue.acquire()
            place.release()
            place = overdue
        raise
    if error is not None:
        raise error


def _take_thread() -> SimpleQueue[Callable[[], None]]:
    with contextlib.suppress(IndexError):
        return _idle_threads.pop()
    work: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def run() -> None:
        while True:
            work.get()()

    # As a daemon, unlike AnyIO's threads, it does not hold up a process that shuts
    # down.
    threading.Thread(target=run, daemon=True).start()
    return work
