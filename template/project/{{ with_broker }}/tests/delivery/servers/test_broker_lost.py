"""A broker that goes away, falls silent or forgets, without which requests go on."""

import pytest

from tests.delivery.support.broker import empty
from tests.delivery.support.service import Service
from tests.delivery.support.waiting import eventually


def test_broker_stopped_and_started(service: Service) -> None:
    tasks = [service.enqueue("probe", seconds=0.2) for _ in range(30)]
    tasks += [service.enqueue("probe_failing", failures=2) for _ in range(5)]
    service.wait_until_started(tasks[-1])
    service.broker.stop()
    tasks += [service.enqueue("probe") for _ in range(10)]
    service.broker.start()
    assert service.wait_until_finished() == {"succeeded": len(tasks)}
    assert set(service.effects(tasks).values()) == {1}


def test_broker_emptied(service: Service) -> None:
    service.worker.suspend()
    tasks = [service.enqueue("probe") for _ in range(500)]
    eventually(lambda: service.waiting() == 500, what="all tasks are published")
    empty(service.broker.url)
    service.worker.resume()
    assert service.wait_until_finished() == {"succeeded": 500}
    assert set(service.effects(tasks).values()) == {1}


@pytest.mark.parametrize("fault", ["stop", "hang"])
def test_requests_do_not_depend_on_the_broker(service: Service, fault: str) -> None:
    getattr(service.broker, fault)()
    # All of them are answered before the broker is.
    tasks = [service.enqueue("probe") for _ in range(100)]
    service.broker.start()
    assert service.wait_until_finished() == {"succeeded": 100}
    assert set(service.effects(tasks).values()) == {1}
