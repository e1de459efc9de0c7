"""Time the enqueue of many tasks: by one call, and one by one."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from app.database import database_engine, session_factory
from app.delivery import Enqueuer
from app.tasks.bench_tasks import trivial


async def many(number: int) -> None:
    """Enqueue all by one call, in one transaction."""
    async with session_factory.begin() as session:
        await Enqueuer(session).enqueue_many(trivial.bind(i) for i in range(number))


async def in_one_transaction(number: int) -> None:
    """Enqueue one by one, in one transaction."""
    async with session_factory.begin() as session:
        tasks = Enqueuer(session)
        for index in range(number):
            await tasks.enqueue(trivial, index)


async def committed(number: int) -> None:
    """Enqueue one by one, each in a transaction of its own, as requests do."""
    for index in range(number):
        async with session_factory.begin() as session:
            await Enqueuer(session).enqueue(trivial, index)


async def rate(enqueue: Callable[[int], Awaitable[None]], number: int) -> float:
    """Return how many a second it enqueues, after one that prepares statements."""
    await enqueue(1)
    began = time.perf_counter()
    await enqueue(number)
    return number / (time.perf_counter() - began)


async def main(number: int, singles: int) -> None:
    """Print the rate of each way."""
    rates = {
        "many": await rate(many, number),
        "committed": await rate(committed, singles),
        "in_one_transaction": await rate(in_one_transaction, singles),
    }
    await database_engine.dispose()
    print(json.dumps(rates))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
