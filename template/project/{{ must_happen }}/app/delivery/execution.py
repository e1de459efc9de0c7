"""Run one attempt of a task, the same way under every engine."""

import asyncio
import inspect
import logging
import math
from functools import partial
from typing import Any
from uuid import UUID

from anyio import CapacityLimiter, to_thread

from app.delivery import ledger, notifications
from app.delivery.context import TaskContext
from app.delivery.definitions import must_happen_tasks
from app.settings import settings

logger = logging.getLogger(__name__)

# The first back-off of a task that this release does not know: a deployment may be
# under way.
UNKNOWN_TASK_SECONDS = 10
# An engine bounds its concurrency itself.
_threads = CapacityLimiter(math.inf)


async def execute(task_id: UUID) -> None:
    """Run the task of this id if it waits, and record how it ended; never raise.

    A message that repeats, comes late or names no task finds nothing to claim, and
    nothing happens.
    """
    try:
        claim = await ledger.claim(task_id)
    except Exception as error:
        logger.error(
            "cannot claim task %s, the relay will bring it again: %r", task_id, error
        )
        # Without a database there is no haste to empty the broker.
        await asyncio.sleep(1)
        return

    if claim is None:
        logger.info("nothing to run for task %s", task_id)
    else:
        await run_attempt(claim)


async def run_attempt(claim: ledger.Claim) -> None:
    """Run the attempt that was claimed, and record how it ended; never raise.

    The lease is renewed while the attempt runs; an attempt that lost it is stopped, and
    what it did in its session is rolled back. A cancellation of it gives the task back.
    """
    context = TaskContext(**vars(claim))
    attempt = asyncio.create_task(_attempt(context), name=claim.name)

    try:
        while not attempt.done():
            await asyncio.wait({attempt}, timeout=settings.lease_seconds / 3)
            if not attempt.done() and await _loses_lease(claim, attempt):
                attempt.cancel()
                await asyncio.wait({attempt})
                logger.warning(
                    "%s %s lost its lease and was stopped", claim.name, claim.id
                )
                return

        succeeded = await _record_end(context, attempt)
        if succeeded and context.has_enqueued and settings.broker_url is not None:
            await notifications.notify()
    except asyncio.CancelledError:
        attempt.cancel()
        await asyncio.shield(_give_back(context, attempt))
        raise
    except Exception as error:
        logger.error(
            "cannot record how task %s ended, its lease decides: %r", claim.id, error
        )
    finally:
        await context.close()


async def _attempt(context: TaskContext) -> str:
    task = must_happen_tasks().get(context.name)
    if task is None:
        raise LookupError(f"this worker knows no task named {context.name}")

    leading = [context] if task.takes_context else []
    call: partial[Any] = partial(
        task.function, *leading, **task.load_arguments(context.arguments)
    )

    try:
        async with asyncio.timeout(task.time_limit) as limit:
            if inspect.iscoroutinefunction(task.function):
                return task.dump_result(await call())

            # A thread cannot be stopped: past the time limit it is left to itself.
            result = await to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=_threads
            )
            return task.dump_result(result)
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(
                f"exceeded its time limit of {task.time_limit} s"
            ) from error
        raise
    except SystemExit as error:
        raise RuntimeError(f"the task called sys.exit({error.code!r})") from error


async def _loses_lease(claim: ledger.Claim, attempt: "asyncio.Task[str]") -> bool:
    # Not awaited past the attempt's end: its session may hold what the renewal waits
    # for, the only connection to SQLite, until that end is recorded.
    renewal = asyncio.create_task(_renew(claim))

    try:
        await asyncio.wait({attempt, renewal}, return_when=asyncio.FIRST_COMPLETED)
        return renewal.done() and not renewal.result()
    finally:
        renewal.cancel()


async def _renew(claim: ledger.Claim) -> bool:
    try:
        return await ledger.renew(claim)
    except Exception as error:
        logger.warning("cannot renew the lease of task %s: %r", claim.id, error)
        return True  # Not known to be lost; the fence decides at the end.


async def _record_end(context: TaskContext, attempt: "asyncio.Task[str]") -> bool:
    """Return whether the task succeeded."""
    number = f"attempt {context.attempt} of {context.max_attempts}"
    what = f"{context.name} {context.id}: {number}"

    try:
        if await ledger.succeed(context, attempt.result(), context.opened_session):
            return True
        logger.warning("%s ended after it had lost its lease and is rolled back", what)
    except (Exception, asyncio.CancelledError) as error:
        if not isinstance(error, Exception) and not attempt.cancelled():
            raise

        await context.close()
        task = must_happen_tasks().get(context.name)
        first_delay = task.retry_delay if task else UNKNOWN_TASK_SECONDS
        delay = first_delay * 2 ** (context.attempt - 1)
        status = await ledger.fail(context, f"{type(error).__name__}: {error}", delay)
        logger.error("%s raised; now %s", what, status or "another's", exc_info=error)

    return False


async def _give_back(context: TaskContext, attempt: "asyncio.Task[str]") -> None:
    await asyncio.wait({attempt})
    await context.close()
    await ledger.fail(context, "interrupted: its worker shut down", retry_delay=0)
