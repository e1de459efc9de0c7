"""Processes of different releases side by side, deployed in whichever order."""

import secrets
from concurrent.futures import ThreadPoolExecutor

from tests.delivery.support.database import Database, sibling
from tests.delivery.support.service import Service
from tests.delivery.support.waiting import eventually

NEW_MODULE = """
from app.delivery import TaskContext, must_happen
from app.tasks.probes import have_effect

@must_happen
async def probe_of_the_next_release(task: TaskContext) -> None:
    await have_effect(task)
"""


def test_task_waits_for_a_worker_that_knows_it(service: Service) -> None:
    task = service.enqueue("probe", options={"delay": "P1D"})
    service.database.run(
        "UPDATE tasks SET name = 'probe_of_the_next_release', wake_at = now()"
    )
    eventually(
        lambda: "probe_of_the_next_release" in (service.task(task)["error"] or ""),
        what="a worker that does not know the task gives it back",
    )
    assert service.task(task)["status"] == "queued"
    neighbour = service.enqueue("probe")
    service.wait_for(neighbour)

    service.project.add_task_module("next_release", NEW_MODULE)
    service.worker.kill()
    # No back-off.
    service.database.run("UPDATE tasks SET wake_at = now() WHERE status = 'queued'")
    service.wait_for(task)
    assert service.effects([task, neighbour]) == {task: 1, neighbour: 1}


def test_replicas_that_migrate_together_take_turns(service: Service) -> None:
    name = f"tests_{secrets.token_hex(6)}"
    url = sibling(service.postgresql.url, name)
    service.database.run(f"CREATE DATABASE {name}")
    database = Database(url)
    turn = "SELECT pg_advisory_xact_lock(hashtext('alembic_version'))"
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )

    with ThreadPoolExecutor(4) as replicas:
        with database.uncommitted(turn):
            migrating = [
                replicas.submit(service.project.migrate, url, service.reaper)
                for _ in range(4)
            ]
            eventually(
                lambda: database.value(waiting) == 4, what="four wait for their turn"
            )
        for each in migrating:
            each.result()

    database.close()
    service.database.run(f"DROP DATABASE {name} WITH (FORCE)")
