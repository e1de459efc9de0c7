"""Do the least that a ledger in PostgreSQL needs: claim each task, and end it.

No lease is renewed, no error kept, no session fenced and no argument validated.
"""

import asyncio
import os
from functools import cache
from uuid import UUID

import asyncpg

CLAIM = """
    UPDATE tasks SET status = 'running', attempts = attempts + 1, started_at = now(),
        wake_at = now() + interval '30 s'
    WHERE id = $1 AND status = 'queued'
        AND (published_at IS NOT NULL OR wake_at <= now())
    RETURNING id, name, arguments, attempts, max_attempts
"""
FINISH = """
    UPDATE tasks SET status = 'succeeded', result = 'null', error = NULL,
        finished_at = now(), wake_at = NULL
    WHERE id = $1 AND status = 'running' AND attempts = $2 RETURNING id
"""
# The database, if each task is to pass through it.
URL = os.environ.get("BENCH_TWO_STATEMENTS")

_FIRST_ID = int(UUID("00000000-0000-7000-8000-000000000000"))
_idle: list[asyncpg.Connection] = []  # Of this process: as many as tasks run at a time.


async def claim_and_finish(index: int) -> None:
    """Pass the task of this number through the ledger, if there is one."""
    if URL is None:
        return

    connection = _idle.pop() if _idle else await asyncpg.connect(URL)
    task_id = UUID(int=_FIRST_ID + index + 1)
    # Prepared once: asyncpg keeps statements.
    row = await connection.fetchrow(CLAIM, task_id)
    await connection.fetchrow(FINISH, task_id, row["attempts"])
    _idle.append(connection)


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def claim_and_finish_in_process(index: int) -> None:
    """Do the same where no event loop runs."""
    if URL:
        _runner().run(claim_and_finish(index))
