"""Run procrastinate, which keeps its tasks in PostgreSQL and needs no broker.

Usage: `prepare`, `publish NUMBER`, or `work`, which ends when nothing is left to do.
"""

import asyncio
import os
import sys

import procrastinate

from stamps import stamp

CONCURRENCY = 16

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], max_size=10
    )
)


@app.task
async def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


async def main(what: str) -> None:
    """Do what the command line says."""
    async with app.open_async():
        if what == "prepare":
            await app.schema_manager.apply_schema_async()
        elif what == "publish":
            jobs = [{"index": index} for index in range(int(sys.argv[2]))]
            await trivial.batch_defer_async(*jobs)
        else:
            await app.run_worker_async(concurrency=CONCURRENCY, wait=False)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
