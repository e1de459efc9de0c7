"""Claim and finish tasks as bare SQL, which is all that the database allows."""

import asyncio
import json
import multiprocessing
import sys
import time
from uuid import UUID

import asyncpg

from two_statements import CLAIM, FINISH

PROCESSES = 2


async def _work(url: str, ids: list[UUID]) -> None:
    connection = await asyncpg.connect(url)
    claim, finish = await connection.prepare(CLAIM), await connection.prepare(FINISH)
    while ids:
        task_id = ids.pop()
        row = await claim.fetchrow(task_id)
        await finish.fetchrow(task_id, row["attempts"])
    await connection.close()


async def _work_all(url: str, ids: list[UUID], connections: int) -> None:
    await asyncio.gather(*(_work(url, ids) for _ in range(connections)))


def _process(url: str, ids: list[UUID], connections: int) -> None:
    asyncio.run(_work_all(url, ids, connections))


async def _waiting(url: str) -> list[UUID]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT id FROM tasks WHERE status = 'queued'")
    await connection.close()
    return [row["id"] for row in rows]


def main(url: str, connections: int) -> None:
    """Print how many tasks a second went through."""
    ids = asyncio.run(_waiting(url))
    processes = [
        multiprocessing.Process(
            target=_process, args=(url, ids[part::PROCESSES], connections // PROCESSES)
        )
        for part in range(PROCESSES)
    ]

    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    rate = len(ids) / (time.perf_counter() - began)
    print(json.dumps(rate))  # noqa: T201 - its answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
