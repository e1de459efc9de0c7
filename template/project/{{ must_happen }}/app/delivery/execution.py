"""Run one attempt of a task, the same way under every engine."""

import asyncio
import inspect
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from app.delivery import leases, ledger, notifications
from app.delivery.child_tasks import guarded_children
from app.delivery.context import TaskContext
from app.delivery.definitions import must_happen_tasks
from app.delivery.forks import forget_handlers_in_forks
from app.delivery.threads import ThreadPool
from app.settings import settings

logger = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 3600.0
# The first back-off of a task that this release does not know: a deployment may be
# under way.
UNKNOWN_TASK_SECONDS = 10.0
# Seconds until a task that must not run beside another one of its kind is tried again.
SUSPECT_SECONDS = 5.0
# More than an engine runs tasks at a time.
_threads = ThreadPool(40)

forget_handlers_in_forks()


async def execute(task_id: UUID) -> None:
    """Run the task of this id if it waits, and record how it ended; never raise.

    A message that repeats, comes late or names no task finds nothing to claim, and
    nothing happens.
    """
    try:
        claims = await ledger.claim([task_id])
    except Exception as error:
        logger.error("cannot claim task %s, it will be due again: %r", task_id, error)
        # Without a database there is no haste to take the next one.
        await asyncio.sleep(1)
        return

    if not claims:
        logger.info("nothing to run for task %s", task_id)
    for claim in claims:
        await run_attempt(claim)


async def run_attempt(
    claim: ledger.Claim, on_end: Callable[[], object] = lambda: None
) -> None:
    """Run the attempt that was claimed, and record how it ended; never raise.

    An attempt that lost its lease, or whose worker shuts down, is stopped by the keeper
    of leases, and what it did in its session is rolled back. Any other cancellation is
    a failure, as a task may cancel itself. `on_end` is called as soon as the task's
    function has ended, before that is recorded, unless its session is still to commit.
    """
    context = TaskContext(**vars(claim))
    keeper = leases.keeper()

    try:
        if keeper.is_draining:
            await ledger.give_back(claim)
        elif claim.is_suspect and keeper.holds_suspect:
            pause = random.uniform(0, SUSPECT_SECONDS)  # noqa: S311 - it is no secret
            await ledger.give_back(claim, pause)
        else:
            await _attempt(context, on_end)
    except Exception as error:
        logger.error(
            "cannot record how task %s ended, its lease decides: %r", claim.id, error
        )
    finally:
        await context.close()


async def _attempt(context: TaskContext, on_end: Callable[[], object]) -> None:
    what = f"{context.name} {context.id}: attempt {context.attempt}"

    with leases.keeper().keep(context) as lease:
        try:
            result = await _call(context)
        except BaseException as error:
            if lease.is_lost:
                logger.warning("%s lost its lease and was stopped", what)
            elif lease.is_given_back:
                await context.close()
                await ledger.give_back(context)
            else:
                await _record_failure(context, what, error)
            return
        finally:
            lease.is_ending = True
            if context.opened_session is None:
                on_end()

        await _record_success(context, what, result)


async def _call(context: TaskContext) -> str:
    task = must_happen_tasks().get(context.name)
    if task is None:
        raise LookupError(f"this worker knows no task named {context.name}")

    leading = [context] if task.takes_context else []
    call: partial[Any] = partial(
        task.function, *leading, **task.load_arguments(context.arguments)
    )

    late = TimeoutError(f"exceeded its time limit of {task.time_limit} s")
    try:
        async with asyncio.timeout(task.time_limit) as limit:
            if inspect.iscoroutinefunction(task.function):
                with guarded_children():
                    result = await call()
            else:
                # A thread cannot be stopped: past the limit it is left to itself.
                result = await _threads.run(call)

        if limit.expired():  # It was told to stop, and went on.
            raise late
        return task.dump_result(result)
    except TimeoutError as error:
        if limit.expired() and error is not late:
            raise late from error
        raise
    except SystemExit as error:
        raise RuntimeError(f"the task called sys.exit({error.code!r})") from error


async def _record_success(context: TaskContext, what: str, result: str) -> None:
    # A commit that hangs would keep its lease for ever.
    limit = must_happen_tasks()[context.name].time_limit
    try:
        async with asyncio.timeout(limit):
            is_recorded = await ledger.succeed(context, result, context.opened_session)
    except DBAPIError as error:
        # What the task wrote is refused; a lost connection is nobody's failure.
        if error.connection_invalidated:
            raise
        await _record_failure(context, what, error)
        return

    if not is_recorded:
        logger.warning("%s ended after it had lost its lease and is rolled back", what)
    elif context.has_enqueued and not settings.api_runs_tasks:
        await notifications.notify()


async def _record_failure(
    context: TaskContext, what: str, error: BaseException
) -> None:
    await context.close()
    status = await ledger.fail(context, _describe(error), _back_off(context))
    logger.error("%s raised; now %s", what, status or "another's", exc_info=error)


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:
        return name


def _back_off(context: TaskContext) -> float:
    """Return how many seconds to wait after a failure: twice as long each time."""
    task = must_happen_tasks().get(context.name)
    first = task.retry_delay if task else UNKNOWN_TASK_SECONDS
    # Beyond so many doublings any delay is at its maximum.
    delay = min(first * 2.0 ** min(context.failures, 60), MAX_RETRY_SECONDS)
    return delay * random.uniform(0.75, 1.25)  # noqa: S311 - it is no secret
