"""Processes that die, freeze or are told to end in the middle of their work."""

import os
import signal
import time
from pathlib import Path
from uuid import UUID

import pytest

from app.delivery.leases import STOP_SECONDS
from app.delivery.ledger import MAX_INTERRUPTIONS
from tests.delivery.support.service import LEASE_SECONDS, Service
from tests.delivery.support.waiting import eventually


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A file for which tasks wait, so that none ends before something happens to it."""
    return tmp_path / "may go on"


def enqueue_waiting(service: Service, release: Path) -> UUID:
    """Enqueue a task that runs until the file exists."""
    return service.enqueue("probe", until=str(release))


def test_worker_killed(service: Service, release: Path) -> None:
    task = enqueue_waiting(service, release)
    service.wait_until_started(task)
    service.worker.kill()
    service.wait_until_started(task, attempt=2)
    release.touch()
    service.wait_for(task)
    assert service.effects([task]) == {task: 1}


def test_process_that_runs_a_task_killed(service: Service, release: Path) -> None:
    task = enqueue_waiting(service, release)
    os.kill(service.wait_until_started(task), signal.SIGKILL)
    service.wait_until_started(task, attempt=2)
    release.touch()
    service.wait_for(task)
    assert service.effects([task]) == {task: 1}


def test_process_that_a_task_forked_and_ended(service: Service) -> None:
    worker = service.worker.pid
    tasks = [service.enqueue("probe_ending_child") for _ in range(3)]
    for task in tasks:
        service.wait_for(task)
        service.wait_for(service.enqueue("probe"))
    assert service.wait_until_finished() == {"succeeded": 6}
    assert service.worker.pid == worker, "the worker has lived on"


def test_process_whose_event_loop_was_ended(service: Service) -> None:
    harmless = [service.enqueue("probe", seconds=0.1) for _ in range(5)]
    service.enqueue("probe_ending_loop")
    assert service.wait_until_finished() == {"succeeded": 6}
    assert set(service.effects(harmless).values()) == {1}


def test_api_killed_straight_after_its_response(service: Service) -> None:
    tasks = [service.enqueue("probe") for _ in range(20)]
    service.api.kill()
    assert service.wait_until_finished() == {"succeeded": 20}
    assert set(service.effects(tasks).values()) == {1}


def test_every_process_killed_at_once(service: Service) -> None:
    tasks = [service.enqueue("probe", seconds=0.1) for _ in range(20)]
    for process in service.processes.values():
        process.kill()
    assert service.wait_until_finished() == {"succeeded": 20}
    assert set(service.effects(tasks).values()) == {1}


def test_task_that_kills_its_process_fails_alone(service: Service) -> None:
    neighbours = [service.enqueue("probe", seconds=0.5) for _ in range(5)]
    poison = service.enqueue("probe_poison")
    neighbours += [service.enqueue("probe", seconds=0.5) for _ in range(5)]
    assert service.wait_until_finished() == {"succeeded": 10, "failed": 1}
    interruptions = "SELECT interruptions FROM tasks WHERE id = :id"
    assert service.database.value(interruptions, id=poison) == MAX_INTERRUPTIONS
    assert service.task(poison)["status"] == "failed"
    assert set(service.effects(neighbours).values()) == {1}


def test_worker_told_to_end_finishes_what_runs(service: Service) -> None:
    task = service.enqueue("probe", seconds=LEASE_SECONDS + 1)
    service.wait_until_started(task)
    service.worker.terminate()
    shown = service.task(task)
    assert (shown["status"], shown["attempts"]) == ("succeeded", 1)


def test_shutdowns_cost_a_task_nothing(service: Service, release: Path) -> None:
    service.worker.stop()
    service.environment["DRAIN_SECONDS"] = "0.1"
    worker = service.run_extra("worker")
    task = service.enqueue("probe_once", until=str(release))

    starts = "SELECT count(*) FROM probe_starts WHERE task_id = :id"
    for number in range(MAX_INTERRUPTIONS + 1):
        # One that is claimed while its worker drains does not come to its start.
        eventually(
            lambda: service.database.value(starts, id=task) > number,  # noqa: B023
            what=f"the task has started after {number} shutdowns",
        )
        worker.terminate()
        worker.start()
    release.touch()
    service.wait_for(task)

    counts = "SELECT failures, interruptions FROM tasks WHERE id = :id"
    assert tuple(*service.database.rows(counts, id=task)) == (0, 0)
    assert service.effects([task]) == {task: 1}


def test_shutdown_does_not_wait_for_a_thread(service: Service, tmp_path: Path) -> None:
    service.worker.stop()
    service.environment["DRAIN_SECONDS"] = "0.1"
    worker = service.run_extra("worker")

    started = tmp_path / "started"
    task = service.enqueue("probe_blocking", started=str(started))
    eventually(started.exists, what="the thread blocks")
    worker.terminate(within=2 * STOP_SECONDS)
    shown = service.task(task)
    assert (shown["status"], shown["failures"]) == ("queued", 0)


def test_kill_after_too_short_a_grace_is_not_counted(
    service: Service, release: Path
) -> None:
    task = enqueue_waiting(service, release)
    service.wait_until_started(task)
    service.worker.ask_to_end()
    told = "SELECT shutdown_at IS NOT NULL FROM tasks WHERE id = :id"
    eventually(
        lambda: bool(service.database.value(told, id=task)),
        what="the ledger is told of the shutdown",
    )

    service.worker.kill()
    service.wait_until_started(task, attempt=2)
    release.touch()
    service.wait_for(task)
    counts = "SELECT failures, interruptions FROM tasks WHERE id = :id"
    assert tuple(*service.database.rows(counts, id=task)) == (0, 0)


def test_frozen_worker_comes_back_after_another_took_over(
    service: Service, release: Path
) -> None:
    task = enqueue_waiting(service, release)
    service.wait_until_started(task)

    service.worker.suspend()
    service.run_extra("worker")
    service.wait_until_started(task, attempt=2)
    release.touch()
    service.wait_for(task)
    assert service.open_transactions() == 1, "the frozen attempt is about to commit"

    service.worker.resume()
    eventually(
        lambda: service.open_transactions() == 0,
        what="the first attempt has ended",
    )
    assert service.task(task)["attempts"] == 2
    assert service.effects([task]) == {task: 1}


def test_worker_frozen_in_its_commit(service: Service) -> None:
    workers = [service.worker, service.run_extra("worker")]
    task = service.enqueue("probe_freezing")
    service.wait_until_started(task, attempt=2)
    service.wait_for(task)

    for worker in workers:
        worker.resume()
    eventually(
        lambda: service.open_transactions() == 0,
        what="the first attempt has ended",
    )
    assert service.task(task)["attempts"] == 2
    assert service.effects([task]) == {task: 1}


def test_500_tasks_while_the_worker_is_killed_every_two_seconds(
    service: Service, release: Path
) -> None:
    # As many as the smallest worker runs at a time, so that the first kill is sure to
    # interrupt these.
    interrupted = [enqueue_waiting(service, release) for _ in range(4)]
    for task in interrupted:
        service.wait_until_started(task)
    service.worker.kill()
    release.touch()

    tasks = [*interrupted]
    for _ in range(9):
        begun = time.monotonic()
        while time.monotonic() < begun + 2:
            tasks.append(service.enqueue("probe", seconds=0.01))
            time.sleep(0.03)
        service.worker.kill()
    tasks += [service.enqueue("probe", seconds=0.01) for _ in range(500 - len(tasks))]

    finished = service.wait_until_finished(within=600)
    assert finished == {"succeeded": len(tasks)}
    assert set(service.effects(tasks).values()) == {1}
    assert all(service.task(task)["attempts"] > 1 for task in interrupted)
