"""Give a running task what it may need: its identity, a session, and further tasks."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn, ParamSpec

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import session_factory
from app.delivery import ledger
from app.delivery.definitions import BoundTask, MustHappenTask

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class TaskSession(AsyncSession):
    """A session whose transaction is the task's, and ends with it."""

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            "task.session commits with the task's success and is rolled back if it "
            "raises: leave out begin(), commit(), rollback() and close(). For a part "
            "of it, write: async with task.session.begin_nested()"
        )

    def begin(self) -> NoReturn:
        """Refuse: it has begun."""
        self._refuse()

    async def commit(self) -> NoReturn:
        """Refuse: the task has not succeeded yet."""
        self._refuse()

    async def rollback(self) -> NoReturn:
        """Refuse: the task would succeed without its effect."""
        self._refuse()

    async def close(self) -> NoReturn:
        """Refuse: the task would succeed without its effect."""
        self._refuse()


@dataclass
class TaskContext(ledger.Claim):
    """The attempt that runs; a must-happen task may take it as its first parameter.

    Its `id` is the same in every attempt: the idempotency key for effects elsewhere.
    """

    opened_session: AsyncSession | None = None
    has_enqueued: bool = False

    @property
    def session(self) -> AsyncSession:
        """A session that commits together with the task's success, or not at all.

        It refuses to be committed otherwise. It belongs to the event loop: a `def` task
        has no use for it.
        """
        self.opened_session = self.opened_session or TaskSession(**session_factory.kw)
        return self.opened_session

    async def enqueue(
        self, task: MustHappenTask[P], *args: P.args, **kwargs: P.kwargs
    ) -> ledger.Recorded:
        """Record a further task, which exists only if this attempt succeeds.

        Raises TypeError if `task` is not a must-happen task or does not take these
        arguments.
        """
        if not isinstance(task, MustHappenTask):
            raise TypeError(
                f"{task!r} is not a must-happen task: declare it with @must_happen"
            )

        [recorded] = await self.enqueue_many([task.bind(*args, **kwargs)])
        return recorded

    async def enqueue_many(self, calls: Iterable[BoundTask]) -> list[ledger.Recorded]:
        """Record further tasks in one statement; `task.bind(...)` makes a call."""
        self.has_enqueued = True
        return await ledger.record(self.session, list(calls))

    async def close(self) -> None:
        """Roll back whatever the session has not committed."""
        if self.opened_session is None:
            return
        try:
            await AsyncSession.close(self.opened_session)
        except Exception as error:  # As when a child of the task still uses it.
            logger.warning("cannot close the session of task %s: %r", self.id, error)
