"""Work off the ledger by SQL alone, as fast as the database lets one process.

It writes what a worker of the project writes, for as many tasks at a time: claims in
batches as places become free, and the ends of concurrent tasks by one statement with
the fence. No session, failure, lease to renew, validation or log.
"""

import asyncio
import json
import os

import asyncpg
import gate
import uvloop

from app.delivery.worker import CONCURRENCY
from stamps import stamp

Held = tuple[object, int]
"""A task, and the number of its attempt."""

CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT id FROM tasks
        WHERE status = 'queued' AND priority = 0 AND wake_at <= now()
        ORDER BY wake_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE tasks SET status = 'running', attempts = attempts + 1, started_at = now(),
        wake_at = now() + interval '30 s'
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, attempts, arguments
"""
SUCCEED = """
    UPDATE tasks SET status = 'succeeded', result = ended.result, error = NULL,
        finished_at = now(), wake_at = NULL
    FROM unnest($1::uuid[], $2::int[], $3::text[]) AS ended (id, attempt, result)
    WHERE tasks.id = ended.id AND status = 'running' AND attempts = ended.attempt
    RETURNING tasks.id
"""
IDLE_SECONDS = 0.05


class Worker:
    """Claims tasks, runs each in an asyncio task of its own, and records their ends."""

    def __init__(
        self, claiming: asyncpg.Connection, ending: asyncpg.Connection
    ) -> None:
        self._claiming = claiming
        self._ending = ending
        self._running = 0
        self._ended: list[Held] = []
        self._has_ended = asyncio.Event()
        self._has_place = asyncio.Event()

    async def claim(self) -> None:
        """Fill places as they become free."""
        statement = await self._claiming.prepare(CLAIM)
        loop = asyncio.get_running_loop()

        while True:
            self._has_place.clear()
            if free := CONCURRENCY - self._running:
                rows = await statement.fetch(free)
                self._running += len(rows)
                for row in rows:
                    loop.create_task(self._run(*row))  # noqa: RUF006 - counted
                if not rows:
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
            await self._has_place.wait()

    async def record(self) -> None:
        """Record the ends of those that ended while the ones before were recorded."""
        statement = await self._ending.prepare(SUCCEED)
        while True:
            await self._has_ended.wait()
            self._has_ended.clear()
            batch, self._ended = sorted(self._ended), []
            ids, attempts = zip(*batch, strict=True)
            await statement.fetch(ids, attempts, ["null"] * len(batch))

    async def _run(self, task_id: object, attempt: int, arguments: str) -> None:
        stamp(json.loads(arguments)["index"])
        self._ended.append((task_id, attempt))
        self._running -= 1
        self._has_ended.set()
        self._has_place.set()


async def main() -> None:
    """Work until stopped."""
    url = os.environ["DATABASE_URL"]
    worker = Worker(await asyncpg.connect(url), await asyncpg.connect(url))
    await asyncio.gather(worker.claim(), worker.record())


if __name__ == "__main__":
    gate.wait()
    uvloop.run(main())
