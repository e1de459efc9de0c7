"""What is shown of tasks over HTTP, to whom, and what operators may do."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.settings import settings
from tests.delivery.bare.recorded import alter, enqueue
from tests.delivery.support.probe_tasks import probe, probe_hopeless
from tests.delivery.support.waiting import eventually

TOKEN = "the operators' secret"  # noqa: S105 -- of these tests only
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
ROUTES = [
    ("GET", "/tasks"),
    ("POST", f"/tasks/{UUID(int=0)}/cancel"),
    ("POST", "/tasks/x/replay"),
]

Enqueue = Callable[..., str]


@pytest.fixture(autouse=True)
def _operator_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "operator_token", SecretStr(TOKEN))


@pytest.fixture
def waiting(client: TestClient) -> Callable[[], str]:
    """Enqueue a task that waits for an hour."""

    def enqueue_waiting() -> str:
        assert client.portal is not None
        options = probe.using(delay=timedelta(hours=1), key=str(uuid4()))
        return str(client.portal.call(enqueue, options))

    return enqueue_waiting


@pytest.fixture
def failed(client: TestClient) -> str:
    """A task that has failed."""
    assert client.portal is not None
    task_id = client.portal.call(enqueue, probe_hopeless, "4111 secret")
    return wait_until(client, str(task_id), "failed")


def wait_until(client: TestClient, task_id: str, status: str) -> str:
    """Wait until a task has a status."""
    eventually(lambda: client.get(f"/tasks/{task_id}").json()["status"] == status)
    return task_id


def test_state_of_a_task(client: TestClient, failed: str) -> None:
    shown = client.get(f"/tasks/{failed}").json()
    assert set(shown) == {
        "id",
        "name",
        "status",
        "attempts",
        "failures",
        "max_attempts",
        "interruptions",
        "error",
        "result",
        "created_at",
        "started_at",
        "finished_at",
        "wake_at",
    }

    assert (shown["id"], shown["name"], shown["status"]) == (
        failed,
        "probe_hopeless",
        "failed",
    )
    assert (shown["attempts"], shown["failures"], shown["max_attempts"]) == (1, 1, 1)
    assert shown["interruptions"] == 0
    assert (shown["error"], shown["result"]) == ("RuntimeError", None)
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    assert shown["wake_at"] is None


def test_unknown_and_malformed_ids(client: TestClient) -> None:
    assert client.get(f"/tasks/{uuid4()}").status_code == 404
    assert client.get("/tasks/first").status_code == 422
    for action in ("cancel", "replay"):
        assert (
            client.post(f"/tasks/{uuid4()}/{action}", headers=OPERATOR).status_code
            == 404
        )
        assert (
            client.post(f"/tasks/first/{action}", headers=OPERATOR).status_code == 422
        )


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_operators_only(client: TestClient, method: str, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer geheim-ß".encode()},
    ):
        answer = client.request(method, path, headers=headers)  # type: ignore[arg-type]
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_without_a_configured_token(
    client: TestClient, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "operator_token", None)
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer None"},
        OPERATOR,
    ):
        assert client.request(method, path, headers=headers).status_code == 403


def test_arguments_are_shown_to_operators_only(client: TestClient, failed: str) -> None:
    [shown] = client.get("/tasks", headers=OPERATOR).json()["tasks"]
    assert shown["arguments"] == {"secret": "4111 secret"}
    assert (shown["queue"], shown["priority"], shown["key"]) == ("probes", 3, None)
    assert shown["error"] == "RuntimeError: refused 4111 secret"
    assert client.get(f"/tasks/{failed}", headers=OPERATOR).json() == shown

    # The service may have other tokens of its own.
    for headers in ({}, {"Authorization": "Bearer a customer's"}):
        public = client.get(f"/tasks/{failed}", headers=headers).json()
        seen = {name: shown[name] for name in public}
        assert public == seen | {"error": "RuntimeError"}
        assert "4111" not in str(public)


def list_ids(client: TestClient, **parameters: str | int) -> list[str]:
    """Return the ids on all pages."""
    found: list[str] = []
    while True:
        page = client.get("/tasks", params=parameters, headers=OPERATOR).json()
        found += [task["id"] for task in page["tasks"]]
        assert len(page["tasks"]) <= int(parameters.get("limit", 50))
        if page["next"] is None:
            return found
        parameters["after"] = page["next"]


def test_list_is_filtered_and_paged_with_the_newest_first(
    client: TestClient, waiting: Callable[[], str], failed: str
) -> None:
    recorded = [waiting() for _ in range(5)]
    expected = [*reversed(recorded), failed]
    assert list_ids(client) == expected
    for limit in (1, 2, 3, 6, 7):
        assert list_ids(client, limit=limit) == expected

    assert list_ids(client, status="failed") == [failed]
    assert list_ids(client, status="queued", limit=2) == expected[:5]
    assert list_ids(client, name="probe", limit=3) == expected[:5]
    assert list_ids(client, status="queued", name="probe_hopeless") == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"status": "lost"},
        {"limit": 0},
        {"limit": 501},
        {"limit": "many"},
        {"after": "first"},
    ],
    ids=str,
)
def test_wrong_parameters_of_the_list_are_refused(
    client: TestClient, parameters: dict[str, Any]
) -> None:
    answer = client.get("/tasks", params=parameters, headers=OPERATOR)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(parameters))]


def test_cancelled_task_can_only_be_replayed(
    client: TestClient, waiting: Callable[[], str]
) -> None:
    task_id = waiting()
    answer = client.post(f"/tasks/{task_id}/cancel", headers=OPERATOR)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["wake_at"] is None

    again = client.post(f"/tasks/{task_id}/cancel", headers=OPERATOR)
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]
    assert client.post(f"/tasks/{task_id}/replay", headers=OPERATOR).status_code == 200
    wait_until(client, task_id, "succeeded")


def test_queued_task_cannot_be_replayed(
    client: TestClient, waiting: Callable[[], str]
) -> None:
    assert (
        client.post(f"/tasks/{waiting()}/replay", headers=OPERATOR).status_code == 409
    )


def test_succeeded_task_can_be_neither_cancelled_nor_replayed(
    client: TestClient,
) -> None:
    task_id = wait_until(
        client, client.post("/probes", json={}).json()["id"], "succeeded"
    )
    for action in ("cancel", "replay"):
        answer = client.post(f"/tasks/{task_id}/{action}", headers=OPERATOR)
        assert answer.status_code == 409
        assert "succeeded" in answer.json()["detail"]


def test_failed_task_can_be_replayed_but_not_cancelled(
    client: TestClient, failed: str
) -> None:
    assert client.post(f"/tasks/{failed}/cancel", headers=OPERATOR).status_code == 409
    answer = client.post(f"/tasks/{failed}/replay", headers=OPERATOR)
    assert answer.status_code == 200
    # The next one may have begun, or ended, by now.
    assert answer.json()["attempts"] in (1, 2)
    assert answer.json()["max_attempts"] == 1

    wait_until(client, failed, "failed")
    eventually(lambda: client.get(f"/tasks/{failed}").json()["attempts"] == 2)
    wait_until(client, failed, "failed")
    shown = client.get(f"/tasks/{failed}").json()
    assert (shown["attempts"], shown["failures"], shown["max_attempts"]) == (2, 1, 1)


def test_failures_and_interruptions_are_shown_until_a_replay(
    client: TestClient, waiting: Callable[[], str]
) -> None:
    assert client.portal is not None
    task_id = waiting()
    counted = {"attempts": 9, "failures": 4, "interruptions": 3}
    client.portal.call(partial(alter, UUID(task_id), **counted))
    shown = client.get(f"/tasks/{task_id}").json()
    assert {name: shown[name] for name in counted} == counted

    client.post(f"/tasks/{task_id}/cancel", headers=OPERATOR)
    client.post(f"/tasks/{task_id}/replay", headers=OPERATOR)
    wait_until(client, task_id, "succeeded")
    shown = client.get(f"/tasks/{task_id}").json()
    assert {name: shown[name] for name in counted} == {
        "attempts": 10,
        "failures": 0,
        "interruptions": 0,
    }


def test_metrics_show_what_waits_and_what_failed(
    client: TestClient, waiting: Callable[[], str], failed: str
) -> None:
    assert UUID(waiting()) != UUID(failed)
    metrics = client.get("/metrics").text
    assert 'must_happen_tasks{name="probe",status="queued"} 1.0' in metrics
    assert 'must_happen_oldest_task_seconds{name="probe",status="queued"}' in metrics
    assert "must_happen_failed_tasks 1.0" in metrics
