"""The worked example from request to receipt; delete this together with it."""

import statistics
import time
from collections.abc import Sequence
from itertools import count

import pytest

from tests.support.service import Service

SAMPLES = 200
TOLERATED_RATIO = 1.5
TOLERATED_SECONDS = 0.003
"""What this machine's own noise may add to a response time."""

_numbers = count()


def order(service: Service, key: str | None = None) -> dict[str, str]:
    """Place an order."""
    response = service.http.post(
        "/orders",
        json={"email": "someone@example.com", "amount": "12.30"},
        headers={"Idempotency-Key": key or f"order {next(_numbers)}"},
    )
    assert response.status_code == 202, response.text
    assert response.headers["Location"] == f"/tasks/{response.json()['task_id']}"
    accepted: dict[str, str] = response.json()
    return accepted


def payments(service: Service, orders: Sequence[dict[str, str]]) -> list[int]:
    """How often each order was charged."""
    rows = service.database.rows("SELECT order_id, count(*) FROM payments GROUP BY order_id")
    counts = {str(row.order_id): row.count for row in rows}
    return [counts.get(order["order_id"], 0) for order in orders]


def test_order_is_charged_once(service: Service) -> None:
    accepted = order(service, key="the same")
    assert order(service, key="the same") == accepted
    assert service.wait_until_finished(within=20) == {"succeeded": 2}
    assert service.http.get(f"/orders/{accepted['order_id']}").json()["paid"] is True
    assert payments(service, [accepted]) == [1]


def test_orders_are_charged_once_whatever_is_killed(service: Service) -> None:
    orders = []
    for process in (service.worker, service.relay, service.api):
        orders += [order(service) for _ in range(30)]
        process.kill()
    assert service.wait_until_finished(within=60) == {"succeeded": 2 * len(orders)}
    assert set(payments(service, orders)) == {1}


def test_orders_take_no_longer_without_the_broker(service: Service) -> None:
    # Without the worker's own load, so that only the broker makes the difference.
    service.worker.terminate(within=20)
    for round_number in range(3):
        up, down = _measure(service)
        verdicts = [_compare(up, seconds) for seconds in down.values()]
        if all(verdicts):
            break
    service.worker.start()
    ...
