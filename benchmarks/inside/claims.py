"""Time claims, one after the other at an even pace, and print their milliseconds.

Usage: `claims SECONDS [regularly | at-once]`. Meanwhile a process of its own prunes as
the project does, or one batch after the other; the claims end with it.
"""

import asyncio
import json
import sys
import time

from sqlalchemy import select

from app.database import database_engine
from app.delivery import ledger, retention
from app.delivery.statements import query
from app.delivery.table import columns, queued

A_SECOND = 200


async def prune(how: str) -> None:
    """Prune until nothing old is left, or until stopped."""
    await query(select(1))  # Connects.
    print("begins", flush=True)  # noqa: T201 - `main` waits for it
    if how == "regularly":
        await retention.prune_regularly()
    while await retention.prune():
        pass


async def claim(
    seconds: float, pruning: asyncio.subprocess.Process | None
) -> list[float]:
    """Return how many milliseconds each claim took."""
    waiting = select(columns.id).where(queued).order_by(columns.id)
    ids = [row.id for row in await query(waiting.limit(int(seconds * A_SECOND) + 1))]
    await ledger.claim([ids.pop()])  # Connects, and prepares the statement.

    taken = []
    began = time.perf_counter()
    for number, task_id in enumerate(ids):
        appointed = began + number / A_SECOND
        await asyncio.sleep(max(0.0, appointed - time.perf_counter()))
        start = time.perf_counter()
        if not await ledger.claim([task_id]):
            raise SystemExit("a task could not be claimed")
        taken.append((time.perf_counter() - start) * 1000)
        if pruning and pruning.returncode is not None:
            break
    return taken


async def main(seconds: float, how: str | None) -> None:
    """Print how long each claim took."""
    pruning = None
    if how:
        command = [sys.executable, __file__, "prune", how]
        pruning = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE
        )
        await pruning.stdout.readline()

    try:
        taken = await claim(seconds, pruning)
    finally:
        if pruning and pruning.returncode is None:
            pruning.kill()
            await pruning.wait()

    await database_engine.dispose()
    print(json.dumps(taken))  # noqa: T201 - its answer


if __name__ == "__main__":
    if sys.argv[1] == "prune":
        asyncio.run(prune(sys.argv[2]))
    else:
        asyncio.run(main(float(sys.argv[1]), (sys.argv[2:] or [None])[0]))
