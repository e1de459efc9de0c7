"""The worked example of tasks that must happen."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from tests.delivery.bare.waiting import eventually

ORDER = {"email": "ada@example.com", "amount": "12.50"}

Query = Callable[..., list[Any]]


def wait_until_paid(client: TestClient, order_id: str) -> Any:
    """Wait until an order is paid, and return it."""
    return eventually(
        lambda: (order := client.get(f"/orders/{order_id}").json())["paid"] and order
    )


def test_order_is_charged_once(
    client: TestClient, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = client.post("/orders", json=ORDER)
    assert answer.status_code == 202
    accepted = answer.json()
    assert answer.headers["location"] == f"/tasks/{accepted['task_id']}"

    order = wait_until_paid(client, accepted["order_id"])
    assert order == {"id": accepted["order_id"], "paid": True, **ORDER}
    charge = client.get(answer.headers["location"]).json()
    assert (charge["name"], charge["status"]) == ("charge_card", "succeeded")
    eventually(
        lambda: f"receipt of order {accepted['order_id']} to ada@" in caplog.text
    )
    eventually(lambda: query("SELECT status FROM tasks") == [("succeeded",)] * 2)
    assert query("SELECT count(*) FROM payments") == [(1,)]


def test_repeated_request_is_answered_like_the_first(
    client: TestClient, query: Query
) -> None:
    def post(_: int) -> Any:
        return client.post(
            "/orders", json=ORDER, headers={"Idempotency-Key": "basket 7"}
        )

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(post, range(8)))
    wait_until_paid(client, answers[0].json()["order_id"])
    answers.append(post(8))
    assert {answer.status_code for answer in answers} == {202}
    assert len({(answer.text, answer.headers["location"]) for answer in answers}) == 1
    assert (
        query("SELECT count(*) FROM orders")
        == query("SELECT count(*) FROM payments")
        == [(1,)]
    )


def test_key_whose_task_was_pruned_is_refused(client: TestClient, query: Query) -> None:
    headers = {"Idempotency-Key": "basket 7"}
    first = client.post("/orders", json=ORDER, headers=headers).json()
    wait_until_paid(client, first["order_id"])
    eventually(lambda: query("SELECT status FROM tasks") == [("succeeded",)] * 2)
    query("DELETE FROM tasks RETURNING id")
    assert client.post("/orders", json=ORDER, headers=headers).status_code == 409
    assert query("SELECT * FROM tasks") == []
    assert (
        query("SELECT count(*) FROM orders")
        == query("SELECT count(*) FROM payments")
        == [(1,)]
    )


def test_key_of_another_order_is_refused(client: TestClient, query: Query) -> None:
    headers = {"Idempotency-Key": "basket 7"}
    assert client.post("/orders", json=ORDER, headers=headers).status_code == 202
    for changed in ({"amount": "12.51"}, {"email": "bob@example.com"}):
        answer = client.post("/orders", json=ORDER | changed, headers=headers)
        assert answer.status_code == 422
    assert query("SELECT count(*) FROM orders") == [(1,)]
    another = client.post(
        "/orders", json=ORDER, headers={"Idempotency-Key": "basket 8"}
    )
    assert another.status_code == 202


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
    client: TestClient, query: Query, wrong: dict[str, object]
) -> None:
    assert client.post("/orders", json=ORDER | wrong).status_code == 422
    assert query("SELECT * FROM orders") == query("SELECT * FROM tasks") == []


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_wrong_keys_are_refused(client: TestClient, key: str) -> None:
    answer = client.post("/orders", json=ORDER, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


def test_unknown_order(client: TestClient) -> None:
    assert client.get(f"/orders/{uuid4()}").status_code == 404
    assert client.get("/orders/first").status_code == 422
