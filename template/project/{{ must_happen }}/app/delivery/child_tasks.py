"""Keep the asyncio tasks that a task starts from ending the process.

asyncio hands a SystemExit or a KeyboardInterrupt on to whoever runs the event loop
(docs.python.org/3/library/asyncio-task.html#task-object), which would end with all that
runs on it. Whoever waits for such a child gets an error instead.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

_is_guarded: ContextVar[bool] = ContextVar("is_guarded", default=False)

Factory = Callable[..., asyncio.Future[Any]]


@contextlib.contextmanager
def guarded_children() -> Iterator[None]:
    """Guard what is started meanwhile on the running event loop."""
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if not isinstance(factory, _GuardingFactory):
        loop.set_task_factory(_GuardingFactory(factory or _new_task))

    token = _is_guarded.set(True)
    try:
        yield
    finally:
        _is_guarded.reset(token)


def _new_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Future[Any]:
    return asyncio.Task(work, loop=loop, **options)


class _GuardingFactory:
    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def __call__(
        self, loop: asyncio.AbstractEventLoop, work: Any, /, **options: Any
    ) -> asyncio.Future[Any]:
        if not _is_guarded.get():
            return self._factory(loop, work, **options)

        child = self._factory(loop, _guard(work), **options)
        # One that is cancelled before it begins has not begun what it guards either.
        child.add_done_callback(lambda _: work.close())
        return child


async def _guard(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"the task's own child raised {error!r}") from error
