"""Show how much waits and for how long, so that an alert can be set on it.

Counting takes longer the more there is to count. Once that is too long for a request to
wait, it goes on beside the requests as long as they come.
"""

import asyncio
import logging
import time
from datetime import datetime

from prometheus_client import Gauge
from sqlalchemy import ColumnElement, Select, func, select, union_all

from app.delivery.statements import query
from app.delivery.table import columns, failed, queued, running

# Counting that takes more seconds goes on beside the requests.
PATIENCE_SECONDS = 0.02
# The part of the time that may then go into it.
SHARE = 0.05
# Seconds after the last request until it ends.
UNASKED_SECONDS = 120.0

logger = logging.getLogger(__name__)

LABELS = ["name", "status"]
count_gauge = Gauge("must_happen_tasks", "Tasks that have not ended.", LABELS)
age_gauge = Gauge(
    "must_happen_oldest_task_seconds", "Age of the oldest that has not ended.", LABELS
)
failed_gauge = Gauge(
    "must_happen_failed_tasks", "Dead letters: failed tasks that may be replayed."
)


class LedgerFigures:
    """The figures of the ledger, as they were read last."""

    def __init__(self) -> None:
        self._reading: asyncio.Task[float] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._oldest: dict[tuple[str, str], datetime] = {}

    async def observe(self) -> None:
        """Read and show them, or show those that are read all the time.

        Raises what the database's driver raises.
        """
        self._asked_at = time.monotonic()
        if self._refreshing is None or self._refreshing.done():
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            seconds = await asyncio.shield(self._reading)
            if seconds > PATIENCE_SECONDS:
                self._refreshing = asyncio.create_task(self._refresh(seconds))

        age_gauge.clear()
        for labels, oldest in self._oldest.items():
            age_gauge.labels(*labels).set(time.time() - oldest.timestamp())

    async def _refresh(self, seconds: float) -> None:
        try:
            while seconds > PATIENCE_SECONDS:
                await asyncio.sleep(seconds / SHARE)
                if time.monotonic() > self._asked_at + UNASKED_SECONDS:
                    return
                seconds = await self._read()
        except Exception as error:
            logger.warning("cannot read the ledger's figures: %r", error)

    async def _read(self) -> float:
        """Return how many seconds it took."""
        began = time.monotonic()
        [(failures,)] = await query(select(func.count()).where(failed))
        waiting = await query(union_all(*map(_count, (queued, running))))

        failed_gauge.set(failures)
        count_gauge.clear()
        for name, status, number, _ in waiting:
            count_gauge.labels(name, status).set(number)
        self._oldest = {(name, status): oldest for name, status, _, oldest in waiting}

        return time.monotonic() - began


def _count(which: ColumnElement[bool]) -> Select[tuple[str, str, int, datetime]]:
    counted = (columns.name, columns.status, func.count(), func.min(columns.created_at))
    return select(*counted).where(which).group_by(columns.name, columns.status)


ledger_figures = LedgerFigures()
