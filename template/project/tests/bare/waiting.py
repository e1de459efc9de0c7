"""Bounded waiting for a condition: a test that sleeps for a guessed time is slow or wrong."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")

WITHIN_SECONDS = 15.0
INTERVAL_SECONDS = 0.01


def eventually(look: Callable[[], Seen]) -> Seen:
    """Call `look` until it returns something true, and return that."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"last seen: {seen!r}"
        time.sleep(INTERVAL_SECONDS)
    return seen


async def eventually_async(look: Callable[[], Awaitable[Seen]]) -> Seen:
    """Do the same with an `async def` look, and leave the event loop free meanwhile."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not (seen := await look()):
        assert time.monotonic() < deadline, f"last seen: {seen!r}"
        await asyncio.sleep(INTERVAL_SECONDS)
    return seen
