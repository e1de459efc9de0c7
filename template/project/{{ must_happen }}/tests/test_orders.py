"""The worked example of tasks that must happen."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import NoResultFound

from app.database import session_factory
from app.delivery import Enqueuer
from app.models import Order
from app.tasks.orders import charge_card, send_receipt
from tests.delivery.helpers import RecordedTasks, enqueued, run_due

ORDER = {"email": "ada@example.com", "amount": "12.50"}
HEADERS = {"Idempotency-Key": "basket 7"}

Query = Callable[..., list[Any]]


def test_order_is_charged_and_receipted(
    client: TestClient, tasks: RecordedTasks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = client.post("/orders", json=ORDER)
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == f"/tasks/{accepted['task_id']}"
    [charge] = tasks.enqueued(charge_card)
    charge.assert_called_with(UUID(accepted["order_id"]))
    assert charge.queue == "payments"

    assert tasks.run_due() == 2

    order = client.get(f"/orders/{accepted['order_id']}").json()
    assert order == {"id": accepted["order_id"], "paid": True, **ORDER}
    shown = client.get(answer.headers["location"]).json()
    assert (shown["name"], shown["status"]) == ("charge_card", "succeeded")
    assert f"receipt of order {accepted['order_id']} to ada@" in caplog.text


async def test_receipt_is_enqueued_with_the_charge() -> None:
    async with session_factory.begin() as session:
        order = Order(id=uuid4(), email="ada@example.com", amount=5)
        session.add(order)
        await Enqueuer(session).enqueue(charge_card, order.id)

    await run_due()

    [receipt] = await enqueued(send_receipt)
    receipt.assert_called_with(order.id, email="ada@example.com")
    assert receipt.status == "succeeded"


async def test_order_that_does_not_exist_is_not_charged(query: Query) -> None:
    async with session_factory.begin() as session:
        await Enqueuer(session).enqueue(charge_card, uuid4())

    with pytest.raises(NoResultFound):
        await run_due()

    [charge] = await enqueued(charge_card)
    assert (charge.status, charge.attempts) == ("queued", 1)
    assert await enqueued(send_receipt) == query("SELECT * FROM payments") == []


def test_repeated_request_is_answered_like_the_first(
    client: TestClient, tasks: RecordedTasks, query: Query
) -> None:
    answers = [client.post("/orders", json=ORDER, headers=HEADERS) for _ in range(2)]
    tasks.run_due()
    answers.append(client.post("/orders", json=ORDER, headers=HEADERS))
    tasks.run_due()

    assert {answer.status_code for answer in answers} == {202}
    assert len({(answer.text, answer.headers["location"]) for answer in answers}) == 1
    assert query("SELECT count(*) FROM orders") == [(1,)]
    assert query("SELECT count(*) FROM payments") == [(1,)]


def test_request_is_answered_like_the_first_when_its_task_was_pruned(
    client: TestClient, tasks: RecordedTasks, query: Query
) -> None:
    first = client.post("/orders", json=ORDER, headers=HEADERS)
    tasks.run_due()
    query("DELETE FROM tasks")

    assert client.post("/orders", json=ORDER, headers=HEADERS).json() == first.json()

    assert tasks.enqueued(charge_card) == []
    assert query("SELECT count(*) FROM orders") == [(1,)]


def test_key_of_another_order_is_refused(client: TestClient, query: Query) -> None:
    assert client.post("/orders", json=ORDER, headers=HEADERS).status_code == 202
    changed = ORDER | {"amount": "12.51"}
    assert client.post("/orders", json=changed, headers=HEADERS).status_code == 422
    assert query("SELECT count(*) FROM orders") == [(1,)]

    another = {"Idempotency-Key": "basket 8"}
    assert client.post("/orders", json=ORDER, headers=another).status_code == 202


def test_key_belongs_to_one_client(client: TestClient) -> None:
    first = client.post("/orders", json=ORDER, headers=HEADERS).json()
    guessed = ORDER | {"email": "bob@example.com"}
    second = client.post("/orders", json=guessed, headers=HEADERS).json()
    assert {*first.values()}.isdisjoint(second.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "ada"},
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "0.001"},
        {"amount": "12345678901.00"},
        {"amount": "NaN"},
        {"amount": None},
    ],
    ids=str,
)
def test_wrong_orders_are_refused(
    client: TestClient, tasks: RecordedTasks, query: Query, wrong: dict[str, object]
) -> None:
    assert client.post("/orders", json=ORDER | wrong).status_code == 422
    assert query("SELECT * FROM orders") == tasks.enqueued(charge_card) == []


@pytest.mark.parametrize("key", ["", "k" * 201, "\0"])
def test_wrong_keys_are_refused(client: TestClient, key: str) -> None:
    answer = client.post("/orders", json=ORDER, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


def test_unknown_order(client: TestClient) -> None:
    assert client.get(f"/orders/{uuid4()}").status_code == 404
    assert client.get("/orders/first").status_code == 422
