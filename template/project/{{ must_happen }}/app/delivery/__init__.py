"""Declare tasks by what losing one would cost, and enqueue them.

The service's own code imports from here, and from no module below.
"""

from app.delivery.context import TaskContext
from app.delivery.decorator import must_happen
from app.delivery.definitions import BoundTask, MustHappenTask
from app.delivery.enqueue import Enqueuer
from app.delivery.ledger import Recorded
from app.delivery.nice_to_have import NiceToHaveTask, nice_to_have

__all__ = [
    "BoundTask",
    "Enqueuer",
    "MustHappenTask",
    "NiceToHaveTask",
    "Recorded",
    "TaskContext",
    "must_happen",
    "nice_to_have",
]
