"""Bounded waiting for a condition: a test that sleeps for a guessed time is slow or wrong."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def eventually(look: Callable[[], Seen], *, within: float, what: str, every: float = 0.05) -> Seen:
    """Call `look` every `every` seconds until it returns something true, and return that.

    Raises AssertionError naming `what` and what was last seen after `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what} (last seen: {seen!r})"
        time.sleep(every)
    return seen
