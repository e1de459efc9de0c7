"""A broker that goes away, falls silent or forgets, and a database that goes away.

Requests go on being answered without the one; without the other, nothing can be
promised.
"""

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


def test_database_stopped_and_started(service: Service) -> None:
    request = {"name": "probe", "arguments": {}, "options": {}}
    running = service.enqueue("probe", seconds=2)
    service.wait_until_started(running)
    service.postgresql.stop()
    refused = [service.http.post("/probes", json=request) for _ in range(3)]
    ready, live = service.http.get("/readyz"), service.http.get("/livez")
    service.postgresql.start()

    assert [response.status_code for response in refused] == [503, 503, 503]
    assert (ready.status_code, live.status_code) == (503, 200)
    eventually(service.answers, what="the API answers /readyz with 200")
    later = [service.enqueue("probe", seconds=0.1) for _ in range(20)]
    assert service.wait_until_finished() == {"succeeded": 21}
    assert set(service.effects([running, *later]).values()) == {1}
    requests = service.database.rows("SELECT task_id FROM probe_requests")
    assert {each.task_id for each in requests} == {running, *later}
    # No attempt was lost to a connection that had been open before.
    assert {service.task(task)["attempts"] for task in later} == {1}
