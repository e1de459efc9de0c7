"""The worked example from request to receipt; delete this together with it."""

import statistics
import time
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from tests.delivery.support.service import Service

SAMPLES = 200
ROUNDS = 3
TOLERATED_RATIO = 1.5
TOLERATED_SECONDS = 0.003
"""What this machine's own noise may add to a response time."""

_numbers = count()


class Quantiles(NamedTuple):
    """Of response times, in seconds."""

    median: float
    p99: float


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
    service.worker.stop()
    rounds: list[tuple[Quantiles, Quantiles, Quantiles]] = []
    slower = ["not measured"]
    while slower and len(rounds) < ROUNDS:
        up = _response_times(service, SAMPLES // 2)
        service.broker.stop()
        refused = _response_times(service, SAMPLES)
        service.broker.start()
        up += _response_times(service, SAMPLES // 2)
        service.broker.hang()
        hung = _response_times(service, SAMPLES)
        service.broker.start()
        rounds.append((_quantiles(up), _quantiles(refused), _quantiles(hung)))
        slower = _slower(rounds)
    assert not slower
    service.worker.start()
    orders = 3 * SAMPLES * len(rounds)
    assert service.wait_until_finished(within=120) == {"succeeded": 2 * orders}
    charged = service.database.rows("SELECT DISTINCT order_id FROM payments")
    assert service.database.value("SELECT count(*) FROM orders") == len(charged)


def _response_times(service: Service, samples: int) -> list[float]:
    seconds = []
    for _ in range(samples):
        begun = time.perf_counter()
        order(service)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _quantiles(seconds: list[float]) -> Quantiles:
    percentiles = statistics.quantiles(seconds, n=100)
    return Quantiles(percentiles[49], percentiles[98])


def _slower(rounds: list[tuple[Quantiles, Quantiles, Quantiles]]) -> list[str]:
    """Compare the best round of each kind: what disturbs a measurement only ever adds to it."""
    up, *down = (
        Quantiles(min(each.median for each in kind), min(each.p99 for each in kind))
        for kind in zip(*rounds, strict=True)
    )
    return [
        f"{quantile} with the broker {fault}: {seconds:.4f} s, otherwise {usual:.4f} s"
        for fault, quantiles in zip(("refusing", "hanging"), down, strict=True)
        for quantile, seconds, usual in zip(
            Quantiles._fields, quantiles, up, strict=True
        )
        if seconds > TOLERATED_RATIO * usual + TOLERATED_SECONDS
    ]
