"""Wait for a condition: a test that sleeps for a guessed time is slow or wrong."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")

WITHIN_SECONDS = 120.0
"""Only a hang takes longer, on a slow and busy machine, too."""


def eventually(
    look: Callable[[], Seen],
    *,
    within: float = WITHIN_SECONDS,
    what: str = "what is looked for",
    every: float = 0.05,
) -> Seen:
    """Call `look` every `every` seconds until it returns something true; return that.

    Raises AssertionError naming `what` and what was last seen after `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, (
            f"not within {within:g} s: {what} (last seen: {seen!r})"
        )
        time.sleep(every)

    return seen


async def eventually_async(look: Callable[[], Awaitable[Seen]]) -> Seen:
    """Do the same with an `async def` look, and leave the event loop free meanwhile."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not (seen := await look()):
        assert time.monotonic() < deadline, f"last seen: {seen!r}"
        await asyncio.sleep(0.01)
    return seen
