"""Tasks on their way to a worker when nothing goes wrong."""

import os
from datetime import datetime

from tests.delivery.support.service import Service
from tests.delivery.support.waiting import eventually


def test_runs_in_the_engines_worker(service: Service) -> None:
    task = service.enqueue("probe")
    service.wait_for(task)
    assert os.getsid(service.wait_until_started(task)) == service.worker.pid
    shown = service.task(task)
    assert (shown["attempts"], shown["result"], shown["error"]) == (
        1,
        "attempt 1",
        None,
    )
    assert service.effects([task]) == {task: 1}


def test_delayed_task_waits_its_time(service: Service) -> None:
    task = service.enqueue("probe", options={"delay": "PT1.5S"})
    service.wait_for(task)
    shown = service.task(task)
    waited = datetime.fromisoformat(shown["started_at"]) - datetime.fromisoformat(
        shown["created_at"]
    )
    assert waited.total_seconds() >= 1.5


def test_request_whose_commit_fails_is_not_accepted(service: Service) -> None:
    paths = ("/probes", "/probes/uncommittable")
    answers = [service.http.post(path, json={}).status_code for path in paths]
    assert answers == [202, 500]
    assert service.wait_until_finished() == {"succeeded": 1}


def test_queues_and_priorities(service: Service) -> None:
    tasks = [
        service.enqueue("probe_elsewhere"),
        service.enqueue("probe", options={"queue": "probes"}),
        service.enqueue("probe_elsewhere", options={"queue": "default"}),
        *(
            service.enqueue("probe", options={"priority": priority})
            for priority in range(10)
        ),
    ]

    assert service.wait_until_finished() == {"succeeded": len(tasks)}
    assert set(service.effects(tasks).values()) == {1}


def test_children_exist_once_their_parent_has_succeeded(service: Service) -> None:
    parent = service.enqueue("probe_parent", children=3, failures=1)
    service.wait_for(parent)
    assert service.task(parent)["attempts"] == 2
    assert service.wait_until_finished() == {"succeeded": 4}


def test_failure_is_retried_and_its_effects_undone(service: Service) -> None:
    task = service.enqueue("probe_failing", failures=2)
    service.wait_for(task)
    assert service.task(task)["attempts"] == 3
    assert service.effects([task]) == {task: 1}


def test_failed_task_is_kept_and_can_be_replayed(service: Service) -> None:
    task = service.enqueue("probe_failing", failures=3)
    service.wait_for(task, "failed")
    shown = service.task(task)
    assert (shown["attempts"], shown["error"]) == (3, "RuntimeError: failure 3")
    listed = service.operator.get("/tasks", params={"status": "failed"}).json()["tasks"]
    assert [each["id"] for each in listed] == [str(task)]

    assert service.http.post(f"/tasks/{task}/replay").status_code == 401
    assert service.operator.post(f"/tasks/{task}/replay").status_code == 200
    service.wait_for(task)
    assert service.effects([task]) == {task: 1}
    assert service.operator.post(f"/tasks/{task}/replay").status_code == 409


def test_cancelled_while_queued_never_starts(service: Service) -> None:
    service.worker.suspend()
    task = service.enqueue("probe")
    eventually(lambda: service.waiting() == 1, what="the task waits for a worker")
    assert service.operator.post(f"/tasks/{task}/cancel").status_code == 200
    service.worker.resume()
    later = service.enqueue("probe")
    service.wait_for(later)
    assert service.task(task)["status"] == "cancelled"
    assert service.database.value("SELECT count(*) FROM probe_starts") == 1


def test_cancelled_while_running_has_no_effect(service: Service) -> None:
    task = service.enqueue("probe", seconds=3600)
    service.wait_until_started(task)
    assert service.operator.post(f"/tasks/{task}/cancel").status_code == 200
    eventually(
        lambda: service.open_transactions() == 0,
        what="the running attempt is stopped",
    )
    assert service.task(task)["status"] == "cancelled"
    assert service.effects([task]) == {task: 0}
    assert service.operator.post(f"/tasks/{task}/cancel").status_code == 409
