"""Show how much waits and for how long, so that an alert can be set on it."""

import time

from prometheus_client import Gauge
from sqlalchemy import func, select

from app.delivery.ledger import has_failed, t, wakes
from app.delivery.statements import query

LABELS = ["name", "status"]
count = Gauge("must_happen_tasks", "Tasks that have not ended.", LABELS)
age = Gauge(
    "must_happen_oldest_task_seconds", "Age of the oldest that has not ended.", LABELS
)
failed = Gauge(
    "must_happen_failed_tasks", "Dead letters: failed tasks that may be replayed."
)


async def observe_ledger() -> None:
    """Read the figures from the ledger."""
    [(failures,)] = await query(select(func.count()).where(has_failed))
    failed.set(failures)
    count.clear()
    age.clear()
    unfinished = select(t.name, t.status, func.count(), func.min(t.created_at)).where(
        wakes
    )
    for name, status, tasks, oldest in await query(
        unfinished.group_by(t.name, t.status)
    ):
        count.labels(name, status).set(tasks)
        age.labels(name, status).set(time.time() - oldest.timestamp())
