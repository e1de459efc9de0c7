"""Enqueue tasks from a request, over FastAPI's `BackgroundTasks`."""

from typing import ParamSpec

from fastapi import BackgroundTasks

from app.delivery.nice_to_have import Call, NiceToHaveTask, prepare, run_calls

P = ParamSpec("P")


class Enqueuer:
    """Enqueues tasks of one request, which run in their order after its response."""

    def __init__(self, background_tasks: BackgroundTasks) -> None:
        self._background_tasks = background_tasks
        self._calls: list[Call] = []

    async def enqueue(
        self, task: NiceToHaveTask[P], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Enqueue a task; it is lost if the process dies before it ran.

        Raises TypeError if `task` is not a task or does not take these arguments.
        """
        call = prepare(task, *args, **kwargs)
        if not self._calls:
            self._background_tasks.add_task(run_calls, self._calls)
        self._calls.append(call)
