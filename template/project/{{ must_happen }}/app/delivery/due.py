"""Find what is due, without walking again and again over what is due no more.

While a snapshot is held, as by a backup, PostgreSQL keeps every entry that an index has
had since, and a look from the beginning takes longer with each task that ends. So most
looks begin where the last one ended.
"""

import random
import time
from collections.abc import Collection
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import bindparam, literal, select

from app.database import IS_SQLITE
from app.delivery.definitions import DEFAULT_QUEUE, queues
from app.delivery.statements import Row, query
from app.delivery.table import columns, from_now, queued, running

# How many seconds a look begins before the end of the last one, because a transaction
# may commit a little after another that recorded its task later.
LOOK_BACK = 1.0
# The part of the time that may go into looks from the beginning, which find what was
# recorded by a transaction that took longer.
COMPLETE_SHARE = 0.005
# The longest pause between two of them.
COMPLETE_SECONDS = 30.0
EVER = 1e9

# Interrupted tasks come first, then what waits, by its priority.
INTERRUPTED = 10
LANES = range(INTERRUPTED, -1, -1)


class DueTasks:
    """What is due in some queues, or in all of them."""

    # The first look connects: how long it takes says nothing.
    _is_warm = False

    def __init__(self, consumed: Collection[str] | None = None) -> None:
        self._statement = sa.union_all(*(_look(lane, consumed) for lane in LANES))
        self._statement = self._statement.limit(_limit)
        self._began = self._began_before = dict.fromkeys(LANES, 0.0)
        self._complete_at = 0.0

    async def look(
        self, limit: int, *, again: bool = False, in_order: bool = True
    ) -> list[UUID]:
        """Return the ids of so many due tasks, the most urgent first.

        Nothing is locked: others may find the same, and collide less if those of the
        same urgency come in no order. A look comes `again` for what the last one has
        found.
        """
        now = time.monotonic()
        if again:
            self._began = self._began_before
        self._began_before = dict(self._began)
        is_complete = IS_SQLITE or now >= self._complete_at
        ages = {
            f"age_{lane}": EVER if is_complete else now - began
            for lane, began in self._began.items()
        }
        rows = await query(self._statement, limit=limit, **ages)

        taken = time.monotonic() - now
        if is_complete and self._is_warm:
            self._complete_at = now + min(taken / COMPLETE_SHARE, COMPLETE_SECONDS)
        self._is_warm = True
        # By how much the look began too late, if it had to wait, nobody knows.
        if is_complete or taken < LOOK_BACK:
            self._go_on(now, rows[-1] if len(rows) == limit else None)

        if not in_order:
            rows = sorted(random.sample(rows, len(rows)), key=lambda row: -row.lane)
        return [row.id for row in rows]

    def _go_on(self, now: float, last: Row | None) -> None:
        """Let the next look begin where this one has ended."""
        # The lanes after one that is not at its end have not been looked at.
        for lane in LANES:
            self._began[lane] = now - LOOK_BACK
            if last and last.lane == lane:
                self._began[lane] -= (last.now - last.wake_at).total_seconds()
                break


_limit = bindparam("limit", type_=sa.Integer())
_now = sa.type_coerce(from_now(), columns.wake_at.type)


def _look(lane: int, consumed: Collection[str] | None) -> sa.Select[tuple[UUID]]:
    age = bindparam(f"age_{lane}", type_=sa.Float())
    is_in_lane = running if lane == INTERRUPTED else queued & (columns.priority == lane)

    found = (
        select(
            columns.id, literal(lane).label("lane"), columns.wake_at, _now.label("now")
        )
        .where(is_in_lane, columns.wake_at <= from_now())
        .where(columns.wake_at >= from_now(-age))
        .order_by(columns.wake_at)
        .limit(_limit)
    )
    if consumed is not None:
        is_unknown = columns.queue.not_in(queues())  # Another release declares it.
        takes_unknown = sa.literal(DEFAULT_QUEUE in consumed)
        found = found.where(columns.queue.in_(consumed) | (takes_unknown & is_unknown))

    return select(found.subquery())
