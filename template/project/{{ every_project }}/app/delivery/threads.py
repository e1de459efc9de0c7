"""Run `def` tasks in threads of their own, and keep these from slowing requests down.

AnyIO's threads, in which Starlette runs `def` tasks, are those of `def` routes, and
hold up a process that shuts down until they have ended.
"""

import asyncio
import contextlib
import contextvars
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any
from weakref import WeakKeyDictionary

# How many nice-to-have `def` tasks run at a time: each slows down `def` routes.
THREADS = 1
# How many more may run on past their time limit until the next have to wait for them.
OVERDUE = 20
# Seconds after which a thread that computes lets another go on; Python's own are 0.005.
SWITCH_SECONDS = 0.0001


def shorten_switch_interval() -> None:
    """Let requests go on sooner beside a thread that computes."""
    sys.setswitchinterval(SWITCH_SECONDS)


class ThreadPool:
    """Threads that run a call each, so many at a time for each event loop.

    They are kept, because requests wait longer beside a thread that has just been
    started.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._places: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, asyncio.Semaphore]
        ] = WeakKeyDictionary()
        # Where the threads without work wait for more.
        self._idle: deque[SimpleQueue[Callable[[], None]]] = deque()

    async def run(self, call: Callable[[], Any]) -> Any:
        """Run a call in a thread as soon as there is a place, and return its result.

        Raises what the call raises. Cancelled, it is left to itself: a thread cannot be
        stopped. It then runs on beside the next one, unless `OVERDUE` of them do so
        already.
        """
        loop = asyncio.get_running_loop()
        new_places = (asyncio.Semaphore(self._threads), asyncio.Semaphore(OVERDUE))
        place, overdue = self._places.setdefault(loop, new_places)

        def leave() -> None:
            # Only the event loop decides which place that is.
            place.release()

        await place.acquire()
        ended = self._start(call, lambda: loop.call_soon_threadsafe(leave))

        try:
            result, error = await asyncio.wrap_future(ended)
        except asyncio.CancelledError:
            if not ended.done() and not overdue.locked():
                await overdue.acquire()
                place.release()
                place = overdue
            raise

        if error is not None:
            raise error
        return result

    def _start(
        self, call: Callable[[], Any], leave: Callable[[], object]
    ) -> Future[tuple[Any, BaseException | None]]:
        context = contextvars.copy_context()
        # An error is no exception of it: at a GeneratorExit that comes so, the
        # coroutines that wait for it are closed.
        ended: Future[tuple[Any, BaseException | None]] = Future()
        ended.set_running_or_notify_cancel()
        work_of_thread = self._take_thread()

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(call)
            except BaseException as raised:
                error = raised

            self._idle.append(work_of_thread)
            ended.set_result((result, error))
            # The loop is closed: the process is ending.
            with contextlib.suppress(RuntimeError):
                leave()

        work_of_thread.put(work)
        return ended

    def _take_thread(self) -> SimpleQueue[Callable[[], None]]:
        with contextlib.suppress(IndexError):
            return self._idle.pop()

        work: SimpleQueue[Callable[[], None]] = SimpleQueue()

        def run() -> None:
            while True:
                work.get()()

        # A daemon does not hold up a process that shuts down.
        threading.Thread(target=run, daemon=True).start()
        return work


pool = ThreadPool(THREADS)
