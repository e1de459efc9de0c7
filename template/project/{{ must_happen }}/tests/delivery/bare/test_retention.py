"""What ended long ago is deleted, a few at a time, unless it has failed."""

import asyncio
from uuid import UUID

import pytest

from app.delivery import retention
from app.delivery.statements import query
from app.delivery.table import from_now, task_table
from app.settings import settings
from tests.delivery.bare.recorded import alter, enqueue
from tests.delivery.support.probe_tasks import probe
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


async def ended(days_ago: float, status: str = "succeeded") -> UUID:
    """Return a task that ended so long ago."""
    task_id = await enqueue(probe)
    finished_at = from_now(-days_ago * 86_400)
    await alter(task_id, status=status, finished_at=finished_at, wake_at=None)
    return task_id


async def left() -> set[UUID]:
    """Return the tasks in the ledger."""
    return {row.id for row in await query(task_table.select())}


async def test_prune_deletes_what_is_old_and_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "retention_days", 2)
    kept = {await enqueue(probe), await ended(1000, "failed")}
    for status in ("succeeded", "cancelled"):
        kept.add(await ended(1.9, status))
        await ended(2.1, status)

    assert await retention.prune() == 2
    assert await left() == kept
    assert await retention.prune() == 0


async def test_the_oldest_are_deleted_first_a_few_at_a_time() -> None:
    newest, oldest, middle = [await ended(days) for days in (40, 60, 50)]

    assert await retention.prune(1) == 1
    assert await left() == {newest, middle}
    assert await retention.prune(1) == 1
    assert await left() == {newest}
    assert await retention.prune(2) == 1
    assert oldest not in await left()


async def test_pruning_goes_on_after_the_database_was_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "INTERVAL_SECONDS", 0.01)
    prune, outages = retention.prune, [ConnectionError("no database")]

    async def prune_after_an_outage() -> int:
        if outages:
            raise outages.pop()
        return await prune()

    monkeypatch.setattr(retention, "prune", prune_after_an_outage)
    await ended(40)

    async def nothing_is_left() -> bool:
        return not await left()

    pruning = asyncio.create_task(retention.prune_regularly())
    await eventually_async(nothing_is_left)
    assert "no database" in caplog.text

    # It goes on with what ends later, too.
    await ended(40)
    await eventually_async(nothing_is_left)
    pruning.cancel()
    await asyncio.wait({pruning}, timeout=WITHIN_SECONDS)
    assert pruning.cancelled()
