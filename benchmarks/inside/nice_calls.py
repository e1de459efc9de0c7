"""Time `tasks.enqueue` and `BackgroundTasks.add_task` themselves, without a request around them."""

import asyncio
import json
import sys
import time

from fastapi import BackgroundTasks

from app.delivery import TaskQueue, nice_to_have


async def nothing(value: int) -> None:
    """Do nothing."""


task = nice_to_have(nothing)


async def main(number: int) -> None:
    """Print microseconds per call: of one `enqueue`, and of one `add_task`."""
    began = time.perf_counter()
    for _ in range(number):
        await TaskQueue(BackgroundTasks()).enqueue(task, 1)
    between = time.perf_counter()
    for _ in range(number):
        BackgroundTasks().add_task(nothing, 1)
    ended = time.perf_counter()
    calls = {"ours": (between - began) / number, "bare": (ended - between) / number}
    print(json.dumps({name: seconds * 1e6 for name, seconds in calls.items()}))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
