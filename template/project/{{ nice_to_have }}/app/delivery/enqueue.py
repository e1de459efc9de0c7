"""Enqueue tasks from a request, over FastAPI's `BackgroundTasks`."""

from typing import ParamSpec

from app.delivery.nice_to_have import Call, NiceToHaveTask, prepare

P = ParamSpec("P")


class Enqueuer:
    """Enqueues tasks of one request, which run in their order after its response."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    async def enqueue(
        self, task: NiceToHaveTask[P], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Enqueue a task; it is lost if the process dies before it ran.

        Raises TypeError if `task` is not a task or does not take these arguments.
        """
        self._calls.append(prepare(task, *args, **kwargs))
