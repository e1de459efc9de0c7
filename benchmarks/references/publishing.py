"""Publish tasks of a bare engine one by one, as requests would, and say when."""

import asyncio
import inspect
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any


async def _publish_all(
    publish: Callable[[int], Any], number: int, gap: float
) -> list[float]:
    sent = []
    for index in range(number):
        if gap:
            # Not in lockstep with what polls.
            await asyncio.sleep(gap * random.uniform(0.5, 1.5))  # noqa: S311
        sent.append(time.time())
        published = publish(index)
        if inspect.isawaitable(published):
            await published

    return sent


def main(publish: Callable[[int], Any]) -> None:
    """Publish as many tasks as the command line says, and wait so long in between."""
    number, gap = int(sys.argv[1]), float(sys.argv[2])
    times = asyncio.run(_publish_all(publish, number, gap))
    print(json.dumps(times))  # noqa: T201 - its answer
