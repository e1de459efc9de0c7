"""Figures of the ledger cost a request little, however long the counting takes."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.delivery import metrics
from app.delivery.metrics import LedgerFigures
from app.delivery.statements import query
from app.delivery.table import from_now
from tests.delivery.bare.recorded import alter, claim, enqueue
from tests.delivery.support.probe_tasks import probe, probe_hopeless
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


def shown(metric: str, **labels: str) -> float | None:
    """Return what is shown of a metric."""
    return REGISTRY.get_sample_value(metric, labels)


def waiting() -> float | None:
    """Return how many probes are shown to wait."""
    return shown("must_happen_tasks", name="probe", status="queued")


class Counting:
    """What the figures ask of the database, which answers when the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.error: Exception | None = None
        monkeypatch.setattr(metrics, "query", self.query)

    async def query(self, statement: Any) -> Sequence[Any]:
        """Do what `query` does."""
        self.times += 1
        await self.may_go_on.wait()
        if self.error:
            raise self.error
        return await query(statement)


@pytest.fixture
async def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Let no request wait for the counting a second time, and see how often it is."""
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(metrics, "SHARE", 1e9)
    return Counting(monkeypatch)


async def test_what_waits_runs_and_failed_is_counted() -> None:
    old, _, running = [await enqueue(probe) for _ in range(3)]
    await alter(old, created_at=from_now(-3600))
    await claim(running)
    await enqueue(probe.using(delay=timedelta(hours=1)))
    for status in ("failed", "succeeded", "cancelled"):
        ended = await enqueue(probe_hopeless, "")
        await alter(ended, status=status, wake_at=None, finished_at=from_now())

    await LedgerFigures().observe()

    assert waiting() == 3
    assert shown("must_happen_tasks", name="probe", status="running") == 1
    age = shown("must_happen_oldest_task_seconds", name="probe", status="queued")
    assert age is not None
    assert 3600 <= age < 3600 + WITHIN_SECONDS
    assert shown("must_happen_failed_tasks") == 1
    for status in ("queued", "failed", "succeeded", "cancelled"):
        assert shown("must_happen_tasks", name="probe_hopeless", status=status) is None


async def test_what_no_longer_waits_is_no_longer_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", WITHIN_SECONDS)
    figures = LedgerFigures()
    task_id = await enqueue(probe)
    await figures.observe()
    assert waiting() == 1
    await claim(task_id)
    await figures.observe()
    assert waiting() is None


async def test_a_request_does_not_wait_for_slow_counting(counting: Counting) -> None:
    figures = LedgerFigures()
    await enqueue(probe)
    await figures.observe()  # The first one waits.
    assert waiting() == 1

    counting.may_go_on.clear()
    await enqueue(probe)
    async with asyncio.timeout(WITHIN_SECONDS):
        for _ in range(5):
            await figures.observe()
            await asyncio.sleep(0)

    async def is_counted() -> bool:
        return waiting() == 2

    counting.may_go_on.set()
    await eventually_async(is_counted)


async def test_slow_counting_is_done_less_often(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "SHARE", 1e-9)
    figures = LedgerFigures()
    await figures.observe()
    before = counting.times
    for _ in range(5):
        await figures.observe()
        await asyncio.sleep(0.01)
    assert counting.times == before


async def test_requests_share_one_count(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", WITHIN_SECONDS)
    figures = LedgerFigures()
    counting.may_go_on.clear()
    requests = [asyncio.create_task(figures.observe()) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert counting.times == 1

    # One that goes away does not take the others' figures with it.
    requests[0].cancel()
    await asyncio.sleep(0)
    await enqueue(probe)
    counting.may_go_on.set()
    async with asyncio.timeout(WITHIN_SECONDS):
        await asyncio.gather(*requests[1:])
    assert waiting() == 1


async def test_a_failure_is_seen_by_the_next_request(counting: Counting) -> None:
    figures = LedgerFigures()
    await figures.observe()

    counting.error = ConnectionError("no database")

    async def is_seen() -> bool:
        try:
            await figures.observe()
        except ConnectionError:
            return True
        return False

    await eventually_async(is_seen)  # It fails beside requests before.

    counting.error = None
    await enqueue(probe)
    await figures.observe()
    assert waiting() == 1
