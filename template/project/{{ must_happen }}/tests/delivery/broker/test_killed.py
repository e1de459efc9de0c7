"""Processes that die, freeze or are told to end in the middle of their work."""

import os
import signal
import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from tests.delivery.bare.waiting import eventually
from tests.delivery.support.service import LEASE_SECONDS, Service

RERUN_SECONDS = LEASE_SECONDS + 15
"""The promise is 5 s after the lease; the rest is for a worker that starts on a busy machine."""


def test_worker_killed(service: Service) -> None:
    task = service.enqueue("probe", seconds=2)
    service.wait_until_started(task)
    service.worker.kill()
    service.wait_until_started(task, attempt=2, within=RERUN_SECONDS)
    service.wait_for(task)
    assert service.effects([task]) == {task: 1}


def test_child_of_the_worker_killed(service: Service) -> None:
    task = service.enqueue("probe", seconds=2)
    os.kill(service.wait_until_started(task), signal.SIGKILL)
    service.wait_until_started(task, attempt=2, within=RERUN_SECONDS)
    service.wait_for(task)
    assert service.effects([task]) == {task: 1}


def test_api_killed_straight_after_its_response(service: Service) -> None:
    tasks = [service.enqueue("probe") for _ in range(20)]
    service.api.kill()
    assert service.wait_until_finished(within=20) == {"succeeded": 20}
    assert set(service.effects(tasks).values()) == {1}


def test_relay_killed(service: Service) -> None:
    tasks = [
        service.enqueue("probe", options={"delay": f"PT{number / 10}S"})
        for number in range(40)
    ]
    for task in tasks[::20]:
        service.wait_until_started(task)
        service.relay.kill()
    assert service.wait_until_finished(within=20) == {"succeeded": 40}
    assert set(service.effects(tasks).values()) == {1}


def test_every_process_killed_at_once(service: Service) -> None:
    tasks = [service.enqueue("probe", seconds=0.1) for _ in range(20)]
    for process in (service.worker, service.relay, service.api):
        process.kill()
    assert service.wait_until_finished(within=30) == {"succeeded": 20}
    assert set(service.effects(tasks).values()) == {1}


def test_task_that_kills_its_process_fails_alone(service: Service) -> None:
    neighbours = [service.enqueue("probe", seconds=0.5) for _ in range(5)]
    poison = service.enqueue("probe_poison")
    neighbours += [service.enqueue("probe", seconds=0.5) for _ in range(5)]
    assert service.wait_until_finished(within=60) == {"succeeded": 10, "failed": 1}
    shown = service.task(poison)
    assert (shown["status"], shown["attempts"]) == ("failed", 2)
    assert set(service.effects(neighbours).values()) == {1}


def test_worker_told_to_end_finishes_what_runs(service: Service) -> None:
    task = service.enqueue("probe", seconds=2 * LEASE_SECONDS)
    service.wait_until_started(task)
    service.worker.terminate(within=2 * LEASE_SECONDS + 20)
    shown = service.task(task)
    assert (shown["status"], shown["attempts"]) == ("succeeded", 1)


def test_frozen_worker_comes_back_after_another_took_over(service: Service) -> None:
    task = service.enqueue("probe", seconds=2)
    service.wait_until_started(task)
    service.worker.suspend()
    service.run_extra("worker")
    # The broker may hand the first message to the frozen worker, whose connections are
    # open; the relay then misses it after another lease.
    service.wait_until_started(task, attempt=2, within=LEASE_SECONDS + RERUN_SECONDS)
    service.wait_for(task)
    assert service.open_transactions() == 1, "the frozen attempt is about to commit"
    service.worker.resume()
    eventually(
        lambda: service.open_transactions() == 0,
        within=20,
        what="the first attempt has ended",
    )
    assert service.task(task)["attempts"] == 2
    assert service.effects([task]) == {task: 1}


def test_worker_frozen_in_its_commit(service: Service) -> None:
    workers = [service.worker, service.run_extra("worker")]
    task = service.enqueue("probe_freezing")
    service.wait_until_started(task, attempt=2, within=LEASE_SECONDS + RERUN_SECONDS)
    service.wait_for(task)
    for worker in workers:
        worker.resume()
    eventually(
        lambda: service.open_transactions() == 0,
        within=20,
        what="the first attempt has ended",
    )
    assert service.task(task)["attempts"] == 2
    assert service.effects([task]) == {task: 1}


def test_500_tasks_while_the_worker_is_killed_every_two_seconds(
    service: Service,
) -> None:
    # The default lease. A short one would end while the kills go on, and a worker that
    # spends its two seconds on starting could not keep the promise.
    lease_seconds = 30.0
    service.restart_worker_and_relay(lease_seconds)
    kills: list[datetime] = []

    def kill_ten_times() -> None:
        for _ in range(10):
            time.sleep(2)
            kills.append(datetime.now(UTC))
            service.worker.kill()

    killer = threading.Thread(target=kill_ten_times, daemon=True)
    killer.start()
    # The first ones are long, so that the first kill is sure to interrupt some.
    tasks = [service.enqueue("probe", seconds=4) for _ in range(4)]
    for _ in range(496):
        tasks.append(service.enqueue("probe", seconds=0.01))
        time.sleep(0.03)  # spread over the kills
    killer.join()
    assert service.wait_until_finished(within=90) == {"succeeded": 500}
    assert set(service.effects(tasks).values()) == {1}
    again = _run_again(service, kills)
    assert again, "no kill interrupted a task"
    assert [late for late in again if late.seconds > lease_seconds + 5] == []
    service.restart_worker_and_relay()


class RunAgain(NamedTuple):
    """An attempt that followed one which a kill interrupted."""

    task_id: UUID
    attempt: int
    seconds: float
    """Since the kill."""


def _run_again(service: Service, kills: list[datetime]) -> list[RunAgain]:
    starts = service.database.rows(
        "SELECT task_id, attempt, at FROM probe_starts ORDER BY task_id, attempt"
    )
    again = []
    for first, second in pairwise(starts):
        if first.task_id == second.task_id:
            for kill in [kill for kill in kills if first.at < kill < second.at][:1]:
                seconds = (second.at - kill).total_seconds()
                again.append(RunAgain(second.task_id, second.attempt, seconds))
    return again
