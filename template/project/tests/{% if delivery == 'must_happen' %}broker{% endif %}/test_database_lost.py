"""A database that goes away: the one thing without which nothing can be promised."""

from tests.support.service import Service
from tests.support.waiting import eventually


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
    eventually(service.answers, within=20, what="the API answers /readyz with 200")
    task = service.enqueue("probe")
    assert service.wait_until_finished(within=40) == {"succeeded": 2}
    assert service.effects([running, task]) == {running: 1, task: 1}
    requests = service.database.rows("SELECT task_id FROM probe_requests")
    assert {each.task_id for each in requests} == {running, task}
