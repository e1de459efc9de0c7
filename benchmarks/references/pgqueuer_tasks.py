"""Run PgQueuer, which keeps its tasks in PostgreSQL and needs no broker.

Usage: `prepare`, `publish NUMBER`, or `work`, which ends when nothing is left to do.
"""

import asyncio
import os
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from stamps import stamp


async def main(what: str) -> None:
    """Do what the command line says."""
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=2, max_size=10
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

            await queuer.qm.run(mode=QueueExecutionMode.drain)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
