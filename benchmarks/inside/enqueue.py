"""Enqueue so many tasks in one transaction, as the project does, and say when."""

import asyncio
import json
import sys
import time

from app.database import database_engine, session_factory
from app.delivery import Enqueuer
from app.tasks.bench_tasks import trivial


async def main(number: int) -> None:
    """Print when it began, and when the transaction was about to commit."""
    began = time.time()
    async with session_factory() as session:
        tasks = Enqueuer(session)
        for index in range(number):
            await tasks.enqueue(trivial, index)
        committing = time.time()
        await session.commit()
    await database_engine.dispose()

    times = {"began": began, "committing": committing}
    print(json.dumps(times))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
