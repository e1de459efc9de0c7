"""The relay publishes what is due, and leaves alone what only waits."""

from tests.delivery.support.service import LEASE_SECONDS, Service
from tests.delivery.support.waiting import eventually


def test_relay_killed(service: Service) -> None:
    tasks = [
        service.enqueue("probe", options={"delay": f"PT{number / 10}S"})
        for number in range(40)
    ]
    for task in tasks[::20]:
        service.wait_until_started(task)
        service.relay.kill()
    assert service.wait_until_finished() == {"succeeded": 40}
    assert set(service.effects(tasks).values()) == {1}


def test_two_relays_are_harmless(service: Service) -> None:
    service.run_extra("relay")
    tasks = [service.enqueue("probe", options={"delay": "PT1S"}) for _ in range(100)]
    assert service.wait_until_finished() == {"succeeded": 100}
    starts = service.database.rows("SELECT task_id FROM probe_starts")
    assert sorted(each.task_id for each in starts) == sorted(tasks)


def test_waiting_backlog_is_not_published_again(service: Service) -> None:
    service.worker.stop()
    for _ in range(50):
        service.enqueue("probe")
    eventually(lambda: service.waiting() == 50, what="all tasks are published")

    published = service.database.rows("SELECT id, published_at FROM tasks ORDER BY id")

    # The relay compares the ledger with the broker several times a lease; a task that
    # is delayed by some leases shows that it has gone on doing so.
    later = service.enqueue("probe", options={"delay": f"PT{2 * LEASE_SECONDS}S"})
    eventually(
        lambda: service.waiting() == 51,
        what="the relay goes on",
    )
    again = service.database.rows(
        "SELECT id, published_at FROM tasks WHERE id <> :later ORDER BY id", later=later
    )
    assert again == published

    service.worker.start()
    assert service.wait_until_finished() == {"succeeded": 51}


def test_task_replayed_while_the_relay_prunes_is_kept(service: Service) -> None:
    service.relay.stop()
    pruned, replayed = (
        service.enqueue("probe", options={"delay": "P1D"}) for _ in range(2)
    )
    service.database.run(
        "UPDATE tasks SET status = 'cancelled', wake_at = NULL,"
        " finished_at = now() - interval '1 year'"
    )

    replay = "UPDATE tasks SET status = 'queued', wake_at = now(), finished_at = NULL"
    with service.database.uncommitted(f"{replay} WHERE id = :id", id=replayed):
        service.relay.start()
        remaining = "SELECT count(*) FROM tasks WHERE id = :id"
        eventually(
            lambda: not service.database.value(remaining, id=pruned),
            what="the relay prunes what nobody replays",
        )

    assert service.wait_until_finished() == {"succeeded": 1}
    assert service.effects([replayed]) == {replayed: 1}
