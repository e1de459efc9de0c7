"""Publish tasks of a bare engine one after the other, as requests would, and say when."""

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
            await asyncio.sleep(gap * random.uniform(0.5, 1.5))  # noqa: S311 - no lockstep
        sent.append(time.time())
        published = publish(index)
        if inspect.isawaitable(published):
            await published
    return sent


def main(publish: Callable[[int], Any]) -> None:
    """Publish as many tasks as the command line says, with that many seconds in between."""
    number, gap = int(sys.argv[1]), float(sys.argv[2])
    print(json.dumps(asyncio.run(_publish_all(publish, number, gap))))  # noqa: T201 - its answer
