"""Run PgQueuer, which keeps its tasks in PostgreSQL and needs no broker.

Usage: `prepare`, `publish NUMBER`, or `work`. It runs as its guide to performance says:
with asyncpg's pool, and on uvloop, as by its own command.
"""

import os
import sys

import asyncpg
import gate
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from stamps import stamp

# Its default; the guide asks for more if tasks are short.
BATCH = int(os.environ.get("BENCH_BATCH", "10"))


async def main(what: str) -> None:
    """Do what the command line says."""
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=5, max_size=20
    ) as pool:
        driver = AsyncpgPoolDriver(pool)
        if what == "prepare":
            await Queries(driver).install()  # Durable tables: its default.
        elif what == "publish":
            indices = [str(index).encode() for index in range(int(sys.argv[2]))]
            await Queries(driver).enqueue(
                ["trivial"] * len(indices), indices, [0] * len(indices)
            )
        else:
            queuer = PgQueuer(driver)

            @queuer.entrypoint("trivial")
            async def trivial(job: Job) -> None:
                stamp(int(job.payload or 0))

            await queuer.qm.run(batch_size=BATCH)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        gate.wait()
    uvloop.run(main(sys.argv[1]))
