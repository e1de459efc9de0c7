"""Run tasks whose loss would only be a pity in this process, after the response.

Starlette ends a request's background tasks with the first that raises, sets no bound on
their run time, and runs `def` tasks in the same threads as `def` routes. Here a failing
task does not touch its neighbours, every task has a time limit, and `def` tasks have a
thread of their own.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Any, Generic, ParamSpec, overload

from prometheus_client import Counter
from pydantic import Field
from pydantic.dataclasses import dataclass

from app.delivery import threads

logger = logging.getLogger(__name__)

P = ParamSpec("P")

outcomes = Counter(
    "nice_to_have_tasks",
    "Nice-to-have tasks that ended, by name and outcome.",
    ["name", "outcome"],
)

_signature = cache(inspect.signature)


@dataclass(frozen=True, kw_only=True)
class NiceToHaveTask(Generic[P]):
    """A task that is lost when its process dies; hand it to `Tasks.enqueue`."""

    function: Callable[P, object]
    name: str
    max_attempts: Annotated[int, Field(ge=1, le=10_000)]
    """How often it is tried, straight one after the other, while it raises."""
    time_limit: Annotated[float, Field(gt=0, le=7 * 86_400)]
    """Seconds for all attempts together, the wait for a free thread included."""


Call = tuple[NiceToHaveTask[Any], Callable[[], Any]]
"""A task, and its function bound to the arguments of one enqueue."""


@overload
def nice_to_have(function: Callable[P, object], /) -> NiceToHaveTask[P]: ...


@overload
def nice_to_have(
    *, max_attempts: int = ..., time_limit: float = ...
) -> Callable[[Callable[P, object]], NiceToHaveTask[P]]: ...


def nice_to_have(
    function: Any = None, /, *, max_attempts: int = 1, time_limit: float = 60
) -> Any:
    """Declare a task that may be lost; its options are attributes of `NiceToHaveTask`.

    An `async def` task runs on the event loop, a `def` one in a thread. Raises
    TypeError if there is no such option, and ValueError if one is out of its range.
    """
    if function is None:
        return partial(nice_to_have, max_attempts=max_attempts, time_limit=time_limit)
    return NiceToHaveTask(
        function=function,
        name=function.__name__,
        max_attempts=max_attempts,
        time_limit=time_limit,
    )


def prepare(task: NiceToHaveTask[P], *args: P.args, **kwargs: P.kwargs) -> Call:
    """Bind a task to its arguments.

    Raises TypeError if it is not a task or does not take these arguments.
    """
    if not isinstance(task, NiceToHaveTask):
        what = getattr(task, "__name__", repr(task))
        raise TypeError(
            f"{what} is not a task: declare it with @nice_to_have or @must_happen"
        )

    _signature(task.function).bind(*args, **kwargs)
    return task, partial(task.function, *args, **kwargs)


async def run_calls(calls: list[Call]) -> None:
    """Take calls out and run them; one that fails is logged and counted.

    A cancellation (the end of the server's grace period) drops the rest, each logged by
    name.
    """
    while calls:
        task, call = calls.pop(0)

        try:
            async with asyncio.timeout(task.time_limit):
                await _run(task, call)
        except asyncio.CancelledError:
            for dropped, _ in [(task, call), *calls]:
                outcomes.labels(dropped.name, "dropped").inc()
                logger.warning("dropped %s: the process is shutting down", dropped.name)
            raise
        except (Exception, SystemExit):
            outcomes.labels(task.name, "failed").inc()
            logger.exception("%s failed", task.name)
        else:
            outcomes.labels(task.name, "succeeded").inc()


async def _run(task: NiceToHaveTask[Any], call: Callable[[], Any]) -> None:
    is_async = inspect.iscoroutinefunction(task.function)

    for attempt in range(1, task.max_attempts + 1):
        try:
            await (call() if is_async else threads.pool.run(call))
            return
        except asyncio.CancelledError as error:
            if (current := asyncio.current_task()) and current.cancelling():
                raise
            raise RuntimeError("the task raised CancelledError itself") from error
        except (Exception, SystemExit):
            if attempt == task.max_attempts:
                raise
            logger.warning("%s raised in attempt %d", task.name, attempt, exc_info=True)
