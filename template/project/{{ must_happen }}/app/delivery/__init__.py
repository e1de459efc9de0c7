"""Promise of each task what its loss would cost. User code imports from here, no deeper."""

from app.delivery.context import TaskContext
from app.delivery.definitions import MustHappenTask, must_happen
from app.delivery.enqueue import Enqueuer
from app.delivery.ledger import Recorded
from app.delivery.nice_to_have import NiceToHaveTask, nice_to_have

__all__ = [
    "MustHappenTask",
    "NiceToHaveTask",
    "Recorded",
    "TaskContext",
    "Enqueuer",
    "must_happen",
    "nice_to_have",
]
