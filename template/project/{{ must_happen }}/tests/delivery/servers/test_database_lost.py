"""A database that goes away: without it, nothing is promised, and nothing is lost."""

import copy
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import make_url

from tests.delivery.support.proxy import Proxy
from tests.delivery.support.service import LEASE_SECONDS, Service
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


def test_row_that_somebody_locks_holds_up_no_other(
    service: Service, tmp_path: Path
) -> None:
    release = tmp_path / "may go on"
    tasks = [service.enqueue("probe", until=str(release)) for _ in range(4)]
    for task in tasks:
        service.wait_until_started(task)

    lock = "UPDATE tasks SET priority = priority WHERE id = :id"
    with service.database.uncommitted(lock, id=tasks[0]):
        renewed = (
            "SELECT count(*) FROM tasks"
            " WHERE wake_at > started_at + CAST(:leases AS interval)"
        )
        leases = 3 * timedelta(seconds=LEASE_SECONDS)
        eventually(
            lambda: service.database.value(renewed, leases=leases) == 3,
            what="the others keep their leases",
        )
        release.touch()
        for task in tasks[1:]:
            service.wait_for(task)

    assert service.wait_until_finished() == {"succeeded": 4}
    assert [service.task(task)["attempts"] for task in tasks[1:]] == [1, 1, 1]
    assert set(service.effects(tasks).values()) == {1}


@pytest.fixture
def proxy(service: Service) -> Proxy:
    """Stands between a service and its database."""
    url = make_url(service.database.url)
    return Proxy(url.host or "127.0.0.1", url.port or 5432)


@pytest.fixture
def reaching(service: Service, proxy: Proxy) -> Iterator[Service]:
    """A service, instead of the other one, that reaches its database by the proxy."""
    for process in service.processes.values():
        process.stop()

    database = copy.copy(service.database)
    url = make_url(database.url).set(host="127.0.0.1", port=proxy.port)
    database.url = url.render_as_string(hide_password=False)
    others = (service.servers, service.reaper)
    reaching = Service(service.project, database, *others, STATEMENT_SECONDS="4")
    try:
        reaching.wait_until_ready()
        yield reaching
    finally:
        reaching.stop()
        proxy.refuse()


def test_connections_that_fall_silent(reaching: Service, proxy: Proxy) -> None:
    running = reaching.enqueue("probe", seconds=2)
    reaching.wait_until_started(running)
    proxy.silence()

    request = {"name": "probe", "arguments": {}, "options": {}}
    later: list[UUID] = []

    def have_been_accepted() -> bool:
        answer = reaching.http.post("/probes", json=request)
        if answer.status_code == httpx2.codes.ACCEPTED:
            later.append(UUID(answer.json()["id"]))
        return len(later) == 20

    eventually(have_been_accepted, what="20 requests are accepted")
    # What was refused may be recorded nevertheless, if the commit was not answered.
    statuses = reaching.wait_until_finished()
    assert statuses.keys() == {"succeeded"}
    assert set(reaching.effects([running, *later]).values()) == {1}
