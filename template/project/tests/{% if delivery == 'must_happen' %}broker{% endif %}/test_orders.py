"""The worked example from request to receipt; delete this together with it."""

import statistics
import time
from collections.abc import Sequence
from itertools import count

from tests.support.service import Service

SAMPLES = 200
ROUNDS = 3
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
    rows = service.database.rows(
        "SELECT order_id, count(*) AS number FROM payments GROUP BY order_id"
    )
    counts = {str(row.order_id): row.number for row in rows}
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
    for _ in range(ROUNDS):
        up = _response_times(service)
        service.broker.stop()
        refused = _response_times(service)
        service.broker.start()
        up += _response_times(service)
        service.broker.hang()
        hung = _response_times(service)
        service.broker.start()
        slower = [*_slower("refused", refused, up), *_slower("hung", hung, up)]
        if not slower:
            break
    assert not slower, f"slower in each of {ROUNDS} rounds: {slower}"
    service.worker.start()
    [(status, number)] = service.wait_until_finished(within=90).items()
    assert (status, number % (8 * SAMPLES)) == ("succeeded", 0)
    assert service.database.value("SELECT count(*) FROM orders") == service.database.value(
        "SELECT count(DISTINCT order_id) FROM payments"
    )


def _response_times(service: Service) -> list[float]:
    seconds = []
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        order(service)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _slower(fault: str, seconds: list[float], baseline: list[float]) -> list[str]:
    quantiles, limits = (statistics.quantiles(each, n=100) for each in (seconds, baseline))
    return [
        f"{fault}: {percent} % took up to {quantiles[percent - 1]:.4f} s, {limits[percent - 1]:.4f}"
        for percent in (50, 99)
        if quantiles[percent - 1] > TOLERATED_RATIO * limits[percent - 1] + TOLERATED_SECONDS
    ]
