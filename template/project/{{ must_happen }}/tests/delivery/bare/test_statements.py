"""What concurrent tasks ask of the ledger is sent together and answered to each."""

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from app.database import database_engine
from app.delivery import ledger
from tests.delivery.bare.recorded import enqueue, get, let_wake
from tests.delivery.support.probe_tasks import probe


async def waiting_tasks(number: int) -> list[UUID]:
    """Enqueue tasks whose moment has come."""
    task_ids = [await enqueue(probe) for _ in range(number)]
    await let_wake(*task_ids)
    return task_ids


async def test_concurrent_attempts_share_transactions() -> None:
    task_ids = await waiting_tasks(20)
    commits: list[object] = []
    note = commits.append
    event.listen(database_engine.sync_engine, "commit", note)
    try:
        claims = await asyncio.gather(*map(ledger.claim, [*task_ids, uuid4()]))
        begun = [claim for claim in claims if claim]
        ends = await asyncio.gather(
            *(ledger.succeed(each, '"x"', None) for each in begun)
        )
    finally:
        event.remove(database_engine.sync_engine, "commit", note)

    assert [claim and claim.id for claim in claims] == [*task_ids, None]
    assert ends == [True] * 20
    assert len(commits) <= 4
    assert {(await get(task_id)).status for task_id in task_ids} == {"succeeded"}


async def test_of_two_claims_at_once_one_starts_the_task() -> None:
    [task_id] = await waiting_tasks(1)

    claims = await asyncio.gather(*(ledger.claim(task_id) for _ in range(5)))

    assert len([claim for claim in claims if claim]) == 1
    assert (await get(task_id)).attempts == 1


async def test_different_statements_at_once_are_answered_to_each() -> None:
    old, new = await waiting_tasks(2)
    held = await ledger.claim(old)
    assert held is not None

    claimed, renewed, failed = await asyncio.gather(
        ledger.claim(new), ledger.renew(held), ledger.fail(held, "no", 0)
    )

    assert (claimed and claimed.id, renewed, failed) == (new, True, "queued")


async def test_a_cancelled_caller_does_not_hold_up_the_others() -> None:
    first, second = await waiting_tasks(2)
    cancelled = asyncio.create_task(ledger.claim(first))
    await asyncio.sleep(0)
    cancelled.cancel()

    claim = await ledger.claim(second)

    assert claim is not None
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_an_error_reaches_everyone_who_waits_and_the_next_statement_runs() -> (
    None
):
    [task_id] = await waiting_tasks(1)
    ill, well = ledger.START.run(task_id, lease="x"), ledger.claim(task_id)

    outcomes = await asyncio.gather(ill, well, return_exceptions=True)

    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert await ledger.claim(task_id) is not None
