"""Time `tasks.enqueue` and `BackgroundTasks.add_task` without a request around them."""

import asyncio
import inspect
import json
import sys
import time

from fastapi import BackgroundTasks

from app.delivery import Enqueuer, nice_to_have
from app.delivery.nice_to_have import Call, run_calls


async def nothing(value: int) -> None:
    """Do nothing."""


task = nice_to_have(nothing)


async def main(number: int) -> None:
    """Print microseconds per call: of one `enqueue`, and of one `add_task`.

    And of an `add_task` after a check of the arguments, which it does not make itself.
    """
    signature = inspect.signature(nothing)

    began = time.perf_counter()
    for _ in range(number):
        calls: list[Call] = []
        BackgroundTasks().add_task(run_calls, calls)
        await Enqueuer(calls).enqueue(task, 1)
    between = time.perf_counter()
    for _ in range(number):
        BackgroundTasks().add_task(nothing, 1)
    unchecked = time.perf_counter()
    for _ in range(number):
        signature.bind(1)
        BackgroundTasks().add_task(nothing, 1)
    ended = time.perf_counter()

    calls = {
        "ours": between - began,
        "bare": unchecked - between,
        "checked": ended - unchecked,
    }
    each = {name: seconds / number * 1e6 for name, seconds in calls.items()}
    print(json.dumps(each))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
