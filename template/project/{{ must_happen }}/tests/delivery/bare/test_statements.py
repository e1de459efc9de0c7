"""What concurrent tasks ask of the ledger is sent together and answered to each."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from app.database import database_engine, session_factory
from app.delivery import ledger
from tests.delivery.bare.recorded import (
    alter,
    claim,
    due,
    enqueue,
    get,
    let_wake,
    sent,
)
from tests.delivery.support.probe_tasks import probe
from tests.delivery.support.waiting import WITHIN_SECONDS


async def waiting_tasks(number: int) -> list[UUID]:
    """Enqueue tasks whose moment has come."""
    task_ids = [await enqueue(probe) for _ in range(number)]
    await let_wake(*task_ids)
    return task_ids


async def test_a_statement_serves_all_who_came_while_the_last_one_was_sent() -> None:
    task_ids = await waiting_tasks(20)

    with sent() as statements:
        claimed = await asyncio.gather(
            *(ledger.claim([each]) for each in [*task_ids, uuid4()])
        )
    assert [[each.id for each in claims] for claims in claimed] == [
        *([each] for each in task_ids),
        [],
    ]
    assert len([each for each in statements if each.startswith("WITH")]) == 1

    with sent() as statements:
        ends = await asyncio.gather(
            *(ledger.succeed(each, '"x"', None) for [each] in claimed[:-1])
        )
    assert ends == [True] * 20
    assert len([each for each in statements if each.startswith("UPDATE")]) == 1
    assert {(await get(each)).status for each in task_ids} == {"succeeded"}


async def test_each_row_of_a_statement_has_values_of_its_own() -> None:
    claims = [await claim(each) for each in await waiting_tasks(3)]
    results = ['"one"', '"\\u0000 \U0001f600"', "null"]

    await asyncio.gather(*map(ledger.succeed, claims, results, [None] * 3))

    assert [(await get(each.id)).result for each in claims] == results


async def test_of_two_callers_of_one_task_one_is_answered() -> None:
    [task_id] = await waiting_tasks(1)

    claimed = await asyncio.gather(*(ledger.claim([task_id]) for _ in range(5)))

    assert sorted(len(claims) for claims in claimed) == [0, 0, 0, 0, 1]
    assert len(await ledger.claim([task_id])) == 0
    assert (await get(task_id)).attempts == 1


async def test_a_caller_that_names_a_task_twice_starts_it_once() -> None:
    [task_id] = await waiting_tasks(1)
    [claimed] = await ledger.claim([task_id, task_id])
    assert (claimed.id, claimed.attempt) == (task_id, 1)


async def test_of_two_attempts_of_a_task_that_end_at_once_the_last_counts() -> None:
    [task_id] = await waiting_tasks(1)
    old = await claim(task_id)
    await let_wake(task_id)
    new = await claim(task_id)

    ends = await asyncio.gather(
        ledger.succeed(old, '"old"', None),
        ledger.succeed(new, '"new"', None),
        ledger.succeed(old, '"old"', None),
    )

    assert list(ends) == [False, True, False]
    assert (await get(task_id)).result == '"new"'


async def test_an_attempt_that_lost_its_lease_does_not_harm_its_neighbours() -> None:
    first, lost, last = [await claim(each) for each in await waiting_tasks(3)]
    assert await ledger.cancel(lost.id)

    ends = await asyncio.gather(
        *(ledger.fail(each, "on purpose", 0) for each in (first, lost, last))
    )

    assert ends == ["queued", None, "queued"]
    rows = [await get(each.id) for each in (first, lost, last)]
    assert [row.failures for row in rows] == [1, 0, 1]


async def test_different_statements_at_once_are_answered_to_each() -> None:
    task_ids = await waiting_tasks(6)
    new, *others = task_ids
    held, ended, failed, last, returned = [await claim(each) for each in others]
    last = replace(last, max_attempts=1)

    started, *answers = await asyncio.gather(
        ledger.claim([new]),
        ledger.renew([held]),
        ledger.succeed(ended, "null", None),
        ledger.fail(failed, "no", 100),
        ledger.fail(last, "no", 0),
        ledger.give_back(returned, 100),
    )

    assert [each.id for each in started] == [new]
    assert answers == [{(held.id, 1)}, True, "queued", "failed", None]
    statuses = [(await get(each)).status for each in task_ids]
    assert statuses == ["running", "running", "succeeded", "queued", "failed", "queued"]
    assert await due() == []


async def test_ends_do_not_wait_for_starts() -> None:
    old, new = await waiting_tasks(2)
    ended = asyncio.create_task(ledger.succeed(await claim(old), "null", None))
    started = asyncio.create_task(ledger.claim([new]))
    async with asyncio.timeout(WITHIN_SECONDS):
        assert await ended
        assert len(await started) == 1


async def test_a_cancelled_caller_does_not_hold_up_the_others() -> None:
    first, second, third = await waiting_tasks(3)
    is_sent = asyncio.create_task(ledger.claim([first]))
    await asyncio.sleep(0)
    waits = asyncio.create_task(ledger.claim([second]))
    await asyncio.sleep(0)
    is_sent.cancel()
    waits.cancel()

    assert (await claim(third)).id == third
    for cancelled in (is_sent, waits):
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    # Whoever is cancelled does not know whether it was done.
    assert {(await get(each)).attempts for each in (first, second)} <= {0, 1}


async def test_an_error_reaches_everyone_who_waits_and_the_next_statement_runs() -> (
    None
):
    task_ids = await waiting_tasks(3)
    await alter(task_ids[0], attempts=2**31 - 1)

    def refuse(*_: Any) -> None:
        raise ConnectionError("no database")

    event.listen(database_engine.sync_engine, "before_cursor_execute", refuse)
    try:
        outcomes = await asyncio.gather(
            *(ledger.claim([each]) for each in task_ids), return_exceptions=True
        )
    finally:
        event.remove(database_engine.sync_engine, "before_cursor_execute", refuse)

    assert [str(outcome) for outcome in outcomes] == ["no database"] * 3
    assert {claim.id for claim in await ledger.claim(task_ids)} == set(task_ids)


async def test_an_error_of_one_statement_is_not_another_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [task_id] = await waiting_tasks(1)
    held = await claim(task_id)

    async def refuse(*_: object) -> list[object]:
        raise ConnectionError("no database")

    monkeypatch.setattr(ledger.RETRY, "send", refuse)
    renewed, failed = await asyncio.gather(
        ledger.renew([held]), ledger.fail(held, "no", 0), return_exceptions=True
    )
    assert renewed == {(task_id, 1)}
    assert isinstance(failed, ConnectionError)


def test_each_event_loop_has_statements_of_its_own() -> None:
    async def run() -> list[ledger.Claim]:
        claims = await ledger.claim(await waiting_tasks(2))
        await database_engine.dispose()
        return claims

    assert [len(asyncio.run(run())) for _ in range(2)] == [2, 2]


async def test_success_in_a_session_is_fenced_like_one_without() -> None:
    [task_id] = await waiting_tasks(1)
    old = await claim(task_id)
    await let_wake(task_id)
    new = await claim(task_id)
    for attempt, expected in ((old, False), (new, True)):
        async with session_factory() as session:
            assert await ledger.succeed(attempt, "null", session) is expected
