"""Define what travels through a broker: a pointer to a task, never its arguments."""

from typing import NamedTuple
from uuid import UUID


class Message(NamedTuple):
    """Names a task, and how it travels."""

    id: UUID
    name: str
    queue: str
    # 0 to 9; a higher one runs sooner, where the broker can order its messages.
    priority: int
