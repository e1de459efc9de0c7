"""Show how much waits and for how long, so that an alert can be set on it."""

import time

from prometheus_client import Gauge
from sqlalchemy import func, select

from app.delivery.statements import query
from app.delivery.table import columns, failed, unfinished

LABELS = ["name", "status"]
count_gauge = Gauge("must_happen_tasks", "Tasks that have not ended.", LABELS)
age_gauge = Gauge(
    "must_happen_oldest_task_seconds", "Age of the oldest that has not ended.", LABELS
)
failed_gauge = Gauge(
    "must_happen_failed_tasks", "Dead letters: failed tasks that may be replayed."
)


async def observe_ledger() -> None:
    """Read the figures from the ledger."""
    [(failures,)] = await query(select(func.count()).where(failed))
    failed_gauge.set(failures)

    waiting = (
        select(columns.name, columns.status, func.count(), func.min(columns.created_at))
        .where(unfinished)
        .group_by(columns.name, columns.status)
    )
    count_gauge.clear()
    age_gauge.clear()
    for name, status, number, oldest in await query(waiting):
        count_gauge.labels(name, status).set(number)
        age_gauge.labels(name, status).set(time.time() - oldest.timestamp())
