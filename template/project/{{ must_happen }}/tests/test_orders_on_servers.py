"""The worked example with real servers, and with workers that die."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from tests.delivery.support.service import Service

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
    rows = service.database.rows(
        "SELECT order_id, count(*) AS number FROM payments GROUP BY order_id"
    )
    counts = {str(row.order_id): row.number for row in rows}
    return [counts.get(order["order_id"], 0) for order in orders]


def test_order_is_charged_once(service: Service) -> None:
    accepted = order(service, key="the same")
    assert order(service, key="the same") == accepted
    assert service.wait_until_finished() == {"succeeded": 2}
    assert service.http.get(f"/orders/{accepted['order_id']}").json()["paid"] is True
    assert payments(service, [accepted]) == [1]


def test_order_is_placed_once_by_requests_at_the_same_time(service: Service) -> None:
    with ThreadPoolExecutor(8) as threads:
        placed = list(threads.map(lambda _: order(service, key="at once"), range(24)))
    assert all(each == placed[0] for each in placed)
    assert service.wait_until_finished() == {"succeeded": 2}
    assert payments(service, placed[:1]) == [1]


def test_orders_are_charged_once_whatever_is_killed(service: Service) -> None:
    orders = []
    for process in service.processes.values():
        orders += [order(service) for _ in range(30)]
        process.kill()
    assert service.wait_until_finished() == {"succeeded": 2 * len(orders)}
    assert set(payments(service, orders)) == {1}


def test_orders_are_accepted_while_no_worker_runs(service: Service) -> None:
    service.worker.stop()
    orders = [order(service) for _ in range(10)]
    assert set(payments(service, orders)) == {0}
    service.worker.start()

    assert service.wait_until_finished() == {"succeeded": 2 * len(orders)}
    assert set(payments(service, orders)) == {1}
