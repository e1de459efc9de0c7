"""Plant faults in the project's code, each of which the model must find."""

from typing import NamedTuple


class Planted(NamedTuple):
    """A text of the code, and what stands in its place."""

    old: str
    new: str
    file: str = "ledger.py"


_HELD = "is_held = and_(is_running, columns.attempts == batch.columns.attempt)"
_STARTABLE = ".where(_is_due | is_published)"
# Past the session of a task, which refuses it.
_COMMITTED = (
    "    if own := context.opened_session:\n"
    "        await super(type(own), own).commit()\n"
)
_RENEW = "RENEW = _fenced(_to_renew, wake_at=from_now(_to_renew.columns.lease))"
_RENEW_ALSO = (
    "RENEW = BatchStatement(\n"
    "    _to_renew,\n"
    "    sa.update(task_table)\n"
    "    .where(columns.id == _to_renew.columns.id, {where})\n"
    "    .values({also}wake_at=from_now(_to_renew.columns.lease))\n"
    "    .returning(columns.id, columns.attempts),\n"
    ")"
)
_ANSWERS = (
    "return [changed.pop(tuple(row[name] for name in names), None) for row in rows]"
)
_FORGIVEN = (
    "            failures=0,\n            interruptions=0,\n            finished"
)
_FOUND = "found = list(await transaction.execute(self.statement, parameters))"
_IS_OLD = "is_old = columns.finished_at <= from_now(-settings.retention_days * 86_400)"

_FENCE = {
    "finish without a fence": Planted(
        "SUCCEED = _fenced(\n    _to_succeed,",
        "def _unfenced(batch: Batch, **values: Any) -> BatchStatement:\n"
        "    found = sa.update(task_table).where(columns.id == batch.columns.id)\n"
        "    found = found.where(unfinished).values(**values)\n"
        "    found = found.returning(columns.id, columns.attempts)\n"
        "    return BatchStatement(batch, found)\n\n\n"
        "SUCCEED = _unfenced(\n    _to_succeed,",
    ),
    "fence without the attempt": Planted(
        _HELD, "is_held = and_(is_running, batch.columns.attempt > 0)"
    ),
    "fence without the state": Planted(
        _HELD, "is_held = columns.attempts == batch.columns.attempt"
    ),
    "claim without a condition": Planted(_STARTABLE, ".where(sa.true())"),
    "claim of a task that is not due": Planted(
        _STARTABLE, ".where(_is_due | (columns.status == Status.QUEUED))"
    ),
    "claim of a task that runs": Planted(
        _STARTABLE, ".where(_is_due | running | is_published)"
    ),
    "claim counts no attempt": Planted(
        "attempts=unless_last(columns.attempts + 1, columns.attempts),",
        "attempts=columns.attempts,",
    ),
    "two callers of one claim both get it": Planted(
        _ANSWERS, _ANSWERS.replace("changed.pop", "changed.get"), "statements.py"
    ),
    "success in a transaction of its own": Planted(
        "    marked = await session.execute(",
        "    await AsyncSession.commit(session)\n    marked = await session.execute(",
    ),
    "what a failed attempt wrote is kept": Planted(
        "    await context.close()\n    status = ",
        f"{_COMMITTED}    status = ",
        "execution.py",
    ),
    "lost lease goes unnoticed": Planted(
        "    if not is_recorded:\n",
        f"{_COMMITTED}    if not is_recorded:\n",
        "execution.py",
    ),
}

_BATCHES = {
    "one lost fence rolls back its neighbours": Planted(
        _FOUND,
        f"{_FOUND}\n"
        "                if self._is_fenced and len(found) < len(rows):\n"
        "                    await transaction.rollback()\n"
        "                    found = []",
        "statements.py",
    ),
    "one lost fence fails its neighbours": Planted(
        _FOUND,
        f"{_FOUND}\n"
        "                if self._is_fenced and len(found) < len(rows) > 1:\n"
        '                    raise ConnectionError("one of them is lost")',
        "statements.py",
    ),
    "lost fence is taken for success": Planted(
        _ANSWERS,
        'lost = [(row["id"], row.get("attempt")) for row in rows]\n'
        "        return [\n"
        "            changed.pop(tuple(row[name] for name in names),\n"
        "                        other if self._is_fenced else None)\n"
        "            for row, other in zip(rows, lost, strict=True)\n"
        "        ]",
        "statements.py",
    ),
    "lost fence in a batch is taken for success": Planted(
        _ANSWERS,
        "return [*found, *[None] * (len(rows) - len(found))]",
        "statements.py",
    ),
    "answers go to the neighbours": Planted(
        "            for rows, answer in calls:\n",
        "            for rows, answer in reversed(calls):\n",
        "statements.py",
    ),
    "only the first of a batch is sent": Planted(
        "batch = [row for rows, _ in calls for row in rows]\n"
        "            found = iter(await self._send(statement, batch))",
        "batch = [row for rows, _ in calls[:1] for row in rows]\n"
        "            found = iter(await self._send(statement, batch) + [None] * 99)",
        "statements.py",
    ),
}

_KEEPER = {
    "keeper renews what it has lost": Planted(
        _RENEW, _RENEW_ALSO.format(where="running", also="")
    ),
    "keeper lets go on what it has lost": Planted(
        "for key in held.keys() - kept:",
        "for key in set[tuple[UUID, int]]():",
        "leases.py",
    ),
    "keeper forgets one": Planted(
        "held = dict(self._held)",
        "held = dict(list(self._held.items())[:1])",
        "leases.py",
    ),
    "keeper renews after the end": Planted(
        "            del self._held[claim.id, claim.attempt]",
        "            pass",
        "leases.py",
    ),
    "keeper stops after the first time": Planted(
        "            self._renewing = None\n            self._wait()",
        "            self._renewing = None",
        "leases.py",
    ),
    "keeper stops after an error": Planted(
        '            logger.warning("cannot renew',
        "            self._wait = lambda: None  # type: ignore[method-assign]\n"
        '            logger.warning("cannot renew',
        "leases.py",
    ),
    "heartbeat revives a finished task": Planted(
        _RENEW,
        _RENEW_ALSO.format(
            where="columns.attempts == _to_renew.columns.attempt",
            also='status="running", finished_at=None, ',
        ),
    ),
    "heartbeat does not push the lease on": Planted(
        _RENEW,
        "_end = from_now(_to_renew.columns.lease)\n"
        "_sooner = case((_end < columns.wake_at, _end), else_=columns.wake_at)\n"
        "RENEW = _fenced(_to_renew, wake_at=_sooner)",
    ),
}

_COUNTS = {
    "interruption counts as a failure": Planted(
        '"interruptions": columns.interruptions + case((_is_interrupted, 1), else_=0),',
        '"failures": columns.failures + case((running, 1), else_=0),',
    ),
    "lost connection counts as a failure": Planted(
        "    except DBAPIError as error:\n"
        "        # What the task wrote is refused;"
        " a lost connection is nobody's failure.\n"
        "        if error.connection_invalidated:\n"
        "            raise\n",
        "    except Exception as error:\n",
        "execution.py",
    ),
    "failure counts as nothing": Planted(
        "    status=Status.QUEUED,\n    failures=columns.failures + 1,",
        "    status=Status.QUEUED,",
    ),
    "shutdown counts as a failure": Planted(
        "    _to_give_back,\n    status=Status.QUEUED,",
        "    _to_give_back,\n    status=Status.QUEUED,\n"
        "    failures=columns.failures + 1,",
    ),
    "shutdown counts as an interruption": Planted(
        "    _to_give_back,\n    status=Status.QUEUED,",
        "    _to_give_back,\n    status=Status.QUEUED,\n"
        "    interruptions=columns.interruptions + 1,",
    ),
    "kill after an announced shutdown counts": Planted(
        "_is_interrupted = and_(running, columns.shutdown_at.is_(None))",
        "_is_interrupted = running",
    ),
    "announced shutdown excuses later attempts": Planted(
        "        shutdown_at=None,\n", ""
    ),
    "shutdown gives nothing back": Planted(
        "            await ledger.give_back(context)",
        "            await asyncio.sleep(0)",
        "execution.py",
    ),
    "shutdown gives one back": Planted(
        "        for lease in self._held.values():\n            lease.give_back()",
        "        for number, lease in enumerate(self._held.values()):\n"
        "            lease._stop() if number else lease.give_back()",
        "leases.py",
    ),
    "shutdown is taken for a failure": Planted(
        "        self.is_given_back = self._stop() or self.is_given_back",
        "        self._stop()",
        "leases.py",
    ),
    "shutdown under which a task raises is taken for a failure": Planted(
        "elif lease.is_given_back:",
        "elif lease.is_given_back and isinstance(error, asyncio.CancelledError):",
        "execution.py",
    ),
    "shutdown loses what is being claimed": Planted(
        "            await asyncio.shield(claiming)",
        "            await claiming",
        "worker.py",
    ),
    "limit of interruptions is ignored": Planted(
        "_is_interrupted, columns.interruptions + 1 >= MAX_INTERRUPTIONS",
        "_is_interrupted, columns.interruptions < 0",
    ),
    "suspects run beside each other": Planted(
        "elif claim.is_suspect and keeper.holds_suspect:",
        "elif claim.is_suspect and not claim:",
        "execution.py",
    ),
    "back-off follows all starts": Planted(
        "min(context.failures, 60)", "min(context.attempt - 1, 60)", "execution.py"
    ),
    "replay counts starts from zero": Planted(
        _FORGIVEN,
        f"            attempts=0,\n{_FORGIVEN}",
    ),
    "replay keeps the failures": Planted(
        _FORGIVEN,
        _FORGIVEN.replace("            failures=0,\n", ""),
    ),
    "replay keeps the interruptions": Planted(
        _FORGIVEN,
        _FORGIVEN.replace("            interruptions=0,\n", ""),
    ),
}

_OTHERS = {
    "relay forgets wake_at": Planted(
        "wake_at=ledger.unless_last(from_now(_takeable.c.delay), sa.null()),",
        "wake_at=ledger.unless_last(columns.wake_at, sa.null()),",
        "relay.py",
    ),
    "relay takes back what has begun": Planted(
        ".where(is_published, *which)", ".where(unfinished, *which)"
    ),
    "lost without regard to age": Planted(
        ".where(is_published, columns.queue == queue, is_old)",
        ".where(is_published, columns.queue == queue)",
        "relay.py",
    ),
    "take-over hurries what is delayed": Planted(
        ".where(is_published, *which)", ".where(columns.status == 'queued', *which)"
    ),
    "prune deletes the failed": Planted(
        ".where(finished, is_old, columns.status != Status.FAILED)",
        ".where(finished, is_old)",
        "retention.py",
    ),
    "prune deletes the unfinished": Planted(
        f"    {_IS_OLD}\n",
        f"    {_IS_OLD.replace('finished_at', 'created_at')}\n"
        "    finished = sa.true()\n",
        "retention.py",
    ),
    "cancel leaves wake_at": Planted(
        "values(status=Status.CANCELLED, **_ended)", "values(status=Status.CANCELLED)"
    ),
    "record in a transaction of its own": Planted(
        "    created = set(await session.scalars("
        "RECORD, _to_record.parameters(in_order)))",
        "    await session.rollback()\n"
        "    async with AsyncSession(session.bind) as other, other.begin():\n"
        "        found = await other.scalars(RECORD, _to_record.parameters(in_order))\n"
        "        created = set(found)",
    ),
}

PLANTED = {**_FENCE, **_BATCHES, **_KEEPER, **_COUNTS, **_OTHERS}
