"""A database that goes away: without it, nothing is promised, and nothing is lost."""

from sqlalchemy import make_url

from tests.delivery.support.service import Service
from tests.delivery.support.waiting import eventually

CUT_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


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


def test_connections_that_are_cut_are_opened_again(service: Service) -> None:
    before = service.enqueue("probe", seconds=1)
    service.wait_until_started(before)
    service.database.rows(CUT_OTHERS)

    eventually(service.answers, what="the API answers /readyz with 200")
    later = [service.enqueue("probe") for _ in range(20)]
    assert service.wait_until_finished() == {"succeeded": 21}
    assert set(service.effects([before, *later]).values()) == {1}


def test_server_that_is_read_only_for_a_while(service: Service) -> None:
    request = {"name": "probe", "arguments": {}, "options": {}}
    database = make_url(service.database.url).database
    setting = f"ALTER DATABASE {database} SET default_transaction_read_only"
    service.database.run(f"{setting} = on")
    service.database.rows(CUT_OTHERS)
    eventually(lambda: not service.answers(), what="/readyz says no")
    refused = [service.http.post("/probes", json=request) for _ in range(3)]
    ready = service.http.get("/readyz")
    service.database.run(f"{setting} = off")

    assert [response.status_code for response in refused] == [503, 503, 503]
    assert ready.status_code == 503
    eventually(service.answers, what="the API answers /readyz with 200")
    later = [service.enqueue("probe") for _ in range(20)]
    assert service.wait_until_finished() == {"succeeded": 20}
    assert set(service.effects(later).values()) == {1}
