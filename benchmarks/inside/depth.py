"""Watch the messages in the broker for so many seconds, and print the most."""

import asyncio
import json
import sys
import time

from app.delivery import engine
from app.delivery.definitions import DEFAULT_QUEUE


async def main(seconds: float) -> None:
    """Look once a second."""
    until = time.monotonic() + seconds
    most = 0
    while time.monotonic() < until:
        most = max(most, await engine.depth(DEFAULT_QUEUE))
        await asyncio.sleep(1)
    print(json.dumps(most))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
