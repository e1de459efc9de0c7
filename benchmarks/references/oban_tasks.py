"""Run Oban for Python, which keeps its tasks in PostgreSQL and needs no broker.

Usage: `prepare`, `publish NUMBER`, or `work`, with uvloop and orjson as its own command
runs it.
"""

import asyncio
import os
import sys

import gate
import orjson
import uvloop
from oban import Job, Oban, worker
from oban.schema import install
from psycopg.types.json import set_json_dumps, set_json_loads

from stamps import stamp

CONCURRENCY = 100


@worker(queue="default")
class Trivial:
    """A task."""

    async def process(self, job: Job) -> None:
        """Note the time."""
        stamp(job.args["index"])


async def main(what: str) -> None:
    """Do what the command line says."""
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    if what == "prepare":
        await install(pool)
    elif what == "publish":
        jobs = (Trivial.new({"index": index}) for index in range(int(sys.argv[2])))
        await Oban(pool=pool).enqueue_many(jobs)
    else:
        async with Oban(pool=pool, queues={"default": CONCURRENCY}):
            await asyncio.Event().wait()
    await pool.close()


if __name__ == "__main__":
    set_json_dumps(orjson.dumps)
    set_json_loads(orjson.loads)
    if sys.argv[1] == "work":
        gate.wait()
    uvloop.run(main(sys.argv[1]))
