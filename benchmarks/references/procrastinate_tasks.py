"""Run procrastinate, which keeps its tasks in PostgreSQL and needs no broker.

Usage: `prepare`, `publish NUMBER`, or `work`.
"""

import os
import sys

import gate
import procrastinate
import uvloop

from stamps import stamp

CONCURRENCY = 16

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], max_size=CONCURRENCY
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
            await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        gate.wait()
    uvloop.run(main(sys.argv[1]))
