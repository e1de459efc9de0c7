"""Enqueue tasks from a request or a script; a must-happen one costs an insert."""

from collections.abc import Iterable
from typing import Any, ParamSpec, overload

from sqlalchemy.ext.asyncio import AsyncSession

from app.delivery import ledger
from app.delivery.definitions import BoundTask, MustHappenTask
from app.delivery.nice_to_have import Call, NiceToHaveTask, prepare

P = ParamSpec("P")


class Enqueuer:
    """Enqueues must-happen tasks with a session, and nice-to-have ones with a request.

    A script gives only the session; its tasks start within a second or so of its
    commit.
    """

    def __init__(self, session: AsyncSession, calls: list[Call] | None = None) -> None:
        self._session = session
        self._calls = calls

    @overload
    async def enqueue(
        self, task: MustHappenTask[P], *args: P.args, **kwargs: P.kwargs
    ) -> ledger.Recorded: ...

    @overload
    async def enqueue(
        self, task: NiceToHaveTask[P], *args: P.args, **kwargs: P.kwargs
    ) -> None: ...

    async def enqueue(
        self, task: Any, *args: Any, **kwargs: Any
    ) -> ledger.Recorded | None:
        """Record a must-happen task if and only if the session's transaction commits.

        A nice-to-have task runs after the response, and is lost if the process dies
        before; outside a request it is a RuntimeError. Raises TypeError if `task` is
        not a task or does not take these arguments, and pydantic's ValidationError if
        one is of a wrong type.
        """
        if isinstance(task, MustHappenTask):
            [recorded] = await self.enqueue_many([task.bind(*args, **kwargs)])
            return recorded

        call = prepare(task, *args, **kwargs)
        if self._calls is None:
            raise RuntimeError(
                f"{task.name} is nice to have and runs after a response only"
            )
        self._calls.append(call)
        return None

    async def enqueue_many(self, calls: Iterable[BoundTask]) -> list[ledger.Recorded]:
        """Record must-happen tasks in one statement, thousands as well as one.

        `charge_card.bind(order_id)` makes a call. Returns them in their order.
        """
        return await ledger.record(self._session, list(calls))
