"""Plant faults in the ledger's code, each of which the model must find."""

from typing import NamedTuple


class Planted(NamedTuple):
    """A text of the code, and what stands in its place."""

    old: str
    new: str
    file: str = "ledger.py"


_ANY_ATTEMPT = 'bindparam("attempt", type_=sa.Integer()) > 0'

_SUCCEED = "ledger.succeed(context, attempt.result(), context.opened_session)"

PLANTED = {
    "finish without a fence": Planted(
        "SUCCEED = _fenced(",
        "def _unfenced(**values: Any) -> TaskStatement:\n"
        f"    found = sa.update(tasks).where(_id, {_ANY_ATTEMPT})\n"
        "    return TaskStatement(found.values(**values).returning(t.id))\n\n\n"
        "SUCCEED = _unfenced(",
    ),
    "fence without the attempt": Planted(
        't.status == Status.RUNNING, t.attempts == bindparam("attempt"))',
        f"t.status == Status.RUNNING, {_ANY_ATTEMPT})",
    ),
    "claim without a condition": Planted(
        "where(_id, t.status == Status.QUEUED, _may_start)", "where(_id)"
    ),
    "claim of a task that is not due": Planted(
        "t.status == Status.QUEUED, _may_start)", "t.status == Status.QUEUED)"
    ),
    "relay forgets wake_at": Planted(
        "wake_at=case((_is_last, sa.null()), else_=from_now(_delay))",
        "wake_at=case((_is_last, sa.null()), else_=t.wake_at)",
    ),
    "claim of what is due counts no attempt": Planted(
        "attempts=case((_is_last, t.attempts), else_=t.attempts + 1)",
        "attempts=t.attempts",
    ),
    "heartbeat revives a finished task": Planted(
        "RENEW = _fenced(wake_at=_lease_end)",
        '_mine = sa.update(tasks).where(_id, t.attempts == bindparam("attempt"))\n'
        "_mine = _mine.values(status=Status.RUNNING, finished_at=None, wake_at=_lease_end)\n"
        "RENEW = TaskStatement(_mine.returning(t.id))",
    ),
    "heartbeat does not push the lease on": Planted(
        "RENEW = _fenced(wake_at=_lease_end)",
        "_sooner = case((_lease_end < t.wake_at, _lease_end), else_=t.wake_at)\n"
        "RENEW = _fenced(wake_at=_sooner)",
    ),
    "give_back resurrects the finished": Planted(
        "async def give_back(ids: Iterable[UUID]) -> None:\n",
        "async def give_back(ids: Iterable[UUID]) -> None:\n"
        "    again = sa.update(tasks).where(t.id.in_(list(ids))).returning(t.id)\n"
        "    again = again.values(status=Status.QUEUED, finished_at=None, published_at=None)\n"
        "    await query(again.values(wake_at=from_now()))\n"
        "    return\n",
    ),
    "attempts used up are ignored": Planted(
        "_is_last = and_(_interrupted, t.attempts >= t.max_attempts)",
        "_is_last = and_(_interrupted, t.attempts < 0)",
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
        "    if await session.scalar(_succeed_in_session,"
        ' {"task_id": claim.id, **mark}) is None:\n'
        "        return False\n    await session.commit()",
        "    await session.commit()\n"
        "    if await SUCCEED.run(claim.id, **mark) is None:\n"
        "        return False",
    ),
    "cancel leaves wake_at": Planted(
        "statement.values(status=Status.CANCELLED, **_ended)",
        "statement.values(status=Status.CANCELLED)",
    ),
    "record in a transaction of its own": Planted(
        "    if task_id := await session.scalar(RECORD, values):",
        "    await session.rollback()\n"
        "    async with AsyncSession(session.bind) as other, other.begin():\n"
        "        task_id = await other.scalar(RECORD, values)\n"
        "    if task_id:",
    ),
    "what a failed attempt wrote is kept": Planted(
        "        await context.close()\n        task = must_happen_tasks()",
        "        if context.opened_session:\n"
        "            await context.opened_session.commit()\n"
        "        task = must_happen_tasks()",
        "execution.py",
    ),
    "lost lease goes unnoticed": Planted(
        f"        if await {_SUCCEED}:",
        f"        await {_SUCCEED}\n"
        "        if context.opened_session:\n"
        "            await context.opened_session.commit()\n"
        "        if True:",
        "execution.py",
    ),
}
