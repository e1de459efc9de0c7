"""Time the ledger's statements in a database, and explain those of the relay."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from sqlalchemy import event

from app.database import database_engine, session_factory
from app.delivery import Enqueuer, ledger, relay, retention
from app.delivery.definitions import DEFAULT_QUEUE
from app.delivery.due import DueTasks
from app.tasks.bench_tasks import trivial

Statement = tuple[str, Any]


async def _time(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def _enqueue(ids: list[UUID]) -> None:
    async with session_factory.begin() as session:
        ids.append((await Enqueuer(session).enqueue(trivial, 0)).id)


async def _claim_and_finish(task_id: UUID) -> None:
    [claim] = await ledger.claim([task_id])
    if not await ledger.succeed(claim, "null", None):
        raise SystemExit("a task has lost its lease")


async def _take(due: DueTasks) -> None:
    await relay.take(await due.look(relay.BATCH), 3600)


async def measure(number: int) -> dict[str, float]:
    """Return the median of each operation in milliseconds."""
    ids: list[UUID] = []
    await _enqueue(ids)  # Connects, and prepares the statement.

    enqueue = [await _time(lambda: _enqueue(ids)) for _ in range(number)]
    taken = range(max(1, number // relay.BATCH))
    due = DueTasks()
    await due.look(1)  # Compiles the statement.
    take = [await _time(lambda: _take(due)) for _ in taken]
    await _claim_and_finish(ids.pop())
    finish = [await _time(lambda: _claim_and_finish(ids.pop())) for _ in range(number)]
    count = [await _time(relay.count_published) for _ in range(3)]
    prune = [await _time(retention.prune) for _ in range(5)]

    measured = {
        "enqueue": enqueue,
        "claim and finish": finish,
        "relay takes 100 due": take,
        "relay counts what is published": count,
        "relay prunes": prune,
    }
    return {name: statistics.median(values) for name, values in measured.items()}


async def explain() -> dict[str, list[str]]:
    """Return the plan of each statement of the relay."""
    seen: list[Statement] = []

    def note(
        _: object, __: object, statement: str, parameters: Any, *___: object
    ) -> None:
        seen.append((statement, parameters))

    event.listen(database_engine.sync_engine, "before_cursor_execute", note)
    await DueTasks().look(relay.BATCH)
    await relay.count_published()
    await relay.presume_lost(DEFAULT_QUEUE, 10)
    await retention.prune()
    event.remove(database_engine.sync_engine, "before_cursor_execute", note)

    plans = {}
    names = ("look", "count_published", "presume_lost", "prune")
    async with database_engine.connect() as connection:
        for name, (statement, parameters) in zip(names, seen, strict=True):
            rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            plans[name] = [row[0] for row in rows]
    return plans


async def main(what: str, number: int) -> None:
    """Print what was asked for."""
    answer = await (explain() if what == "explain" else measure(number))
    await database_engine.dispose()
    print(json.dumps(answer))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
