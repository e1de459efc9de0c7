"""Faults to plant in the ledger's code, each of which the model must find."""

from typing import NamedTuple


class Planted(NamedTuple):
    """A text of the code, and what stands in its place."""

    old: str
    new: str
    file: str = "ledger.py"


PLANTED = {
    "finish without a fence": Planted(
        "mark = _fenced(claim).values(status=Status.SUCCEEDED",
        "mark = sa.update(tasks).where(t.id == claim.id).returning(t.id)\n"
        "    mark = mark.values(status=Status.SUCCEEDED",
    ),
    "fence without the attempt": Planted(
        "t.status == Status.RUNNING, t.attempts == claim.attempt)", "t.status == Status.RUNNING)"
    ),
    "claim without a condition": Planted(
        "where(t.id == task_id, t.status == Status.QUEUED, may_start)", "where(t.id == task_id)"
    ),
    "claim of a task that is not due": Planted(
        "t.status == Status.QUEUED, may_start)", "t.status == Status.QUEUED)"
    ),
    "relay forgets wake_at": Planted(
        "wake_at=case((is_last, sa.null()), else_=from_now(seconds))",
        "wake_at=case((is_last, sa.null()), else_=t.wake_at)",
    ),
    "heartbeat revives a finished task": Planted(
        "return bool(await query(_fenced(claim).values(wake_at=from_now(settings.lease_seconds))))",
        "mine = sa.update(tasks).where(t.id == claim.id, t.attempts == claim.attempt)\n"
        "    lease = from_now(settings.lease_seconds)\n"
        "    mine = mine.values(status=Status.RUNNING, finished_at=None, wake_at=lease)\n"
        "    return bool(await query(mine.returning(t.id)))",
    ),
    "heartbeat does not push the lease on": Planted(
        "_fenced(claim).values(wake_at=from_now(settings.lease_seconds))",
        "_fenced(claim).values(wake_at=t.wake_at)",
    ),
    "give_back resurrects the finished": Planted(
        "where(t.id.in_(list(ids)), _is_published).returning(t.id)\n"
        "    await query(statement.values(",
        "where(t.id.in_(list(ids))).returning(t.id)\n"
        "    await query(statement.values(status=Status.QUEUED, finished_at=None, ",
    ),
    "attempts used up are ignored": Planted(
        "is_last = and_(interrupted, t.attempts >= t.max_attempts)",
        "is_last = and_(interrupted, t.attempts < 0)",
    ),
    "lost without regard to age": Planted(
        "oldest = select(t.id).where(_is_published, t.queue == queue, is_old)",
        "oldest = select(t.id).where(_is_published, t.queue == queue)",
    ),
    "replay counts from zero": Planted(
        "values(status=Status.QUEUED, max_attempts=t.attempts + attempts)",
        "values(status=Status.QUEUED, attempts=0, max_attempts=attempts)",
    ),
    "prune deletes the failed": Planted(
        "where(is_old, t.status != Status.FAILED)", "where(is_old)"
    ),
    "prune deletes the unfinished": Planted(
        "is_old = t.finished_at <= from_now(-settings.retention_days * 86_400)",
        "is_old = t.created_at <= from_now(-settings.retention_days * 86_400)",
    ),
    "success in a transaction of its own": Planted(
        "    if await session.scalar(mark) is None:\n        return False\n"
        "    await session.commit()",
        "    await session.commit()\n    if not await query(mark):\n        return False",
    ),
    "cancel leaves wake_at": Planted(
        "statement.values(status=Status.CANCELLED, **ended)",
        "statement.values(status=Status.CANCELLED)",
    ),
    "record in a transaction of its own": Planted(
        "if task_id := await session.scalar(insert.returning(t.id)):",
        "await session.rollback()\n"
        "    if task_id := next((r.id for r in await query(insert.returning(t.id))), None):",
    ),
    "what a failed attempt wrote is kept": Planted(
        "        await context.close()\n        task = must_happen_tasks()",
        "        if context.opened_session:\n            await context.opened_session.commit()\n"
        "        task = must_happen_tasks()",
        "execution.py",
    ),
    "lost lease goes unnoticed": Planted(
        "        if await ledger.succeed(context, attempt.result(), context.opened_session):",
        "        await ledger.succeed(context, attempt.result(), context.opened_session)\n"
        "        if context.opened_session:\n            await context.opened_session.commit()\n"
        "        if True:",
        "execution.py",
    ),
}
