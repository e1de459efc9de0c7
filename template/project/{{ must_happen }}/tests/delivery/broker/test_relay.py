"""The relay publishes at once, brings back what was lost, and leaves alone what only waits."""

import statistics

from tests.delivery.bare.waiting import eventually
from tests.delivery.support.service import LEASE_SECONDS, Service


def test_task_starts_before_the_relay_would_have_looked(service: Service) -> None:
    for _ in range(15):
        service.enqueue("probe")
        assert set(service.wait_until_finished(within=30)) == {"succeeded"}
    waits = service.database.rows(
        "SELECT extract(epoch FROM started_at - created_at) AS seconds FROM tasks"
    )
    # Half a second, if it only looked every second.
    assert statistics.median(float(wait.seconds) for wait in waits) < 0.3


def test_two_relays_are_harmless(service: Service) -> None:
    service.run_extra("relay")
    tasks = [service.enqueue("probe", options={"delay": "PT1S"}) for _ in range(100)]
    assert service.wait_until_finished(within=30) == {"succeeded": 100}
    starts = service.database.rows("SELECT task_id FROM probe_starts")
    assert sorted(each.task_id for each in starts) == sorted(tasks)


def test_waiting_backlog_is_not_published_again(service: Service) -> None:
    service.worker.stop()
    for _ in range(50):
        service.enqueue("probe")
    eventually(
        lambda: service.waiting() == 50, within=20, what="all tasks are published"
    )
    published = service.database.rows("SELECT id, published_at FROM tasks ORDER BY id")
    # The relay compares the ledger with the broker several times a lease; a task that
    # is delayed by some leases shows that it has gone on doing so.
    later = service.enqueue("probe", options={"delay": f"PT{2 * LEASE_SECONDS}S"})
    eventually(
        lambda: service.waiting() == 51,
        within=2 * LEASE_SECONDS + 10,
        what="the relay goes on",
    )
    again = service.database.rows(
        "SELECT id, published_at FROM tasks WHERE id <> :later ORDER BY id", later=later
    )
    assert again == published
    service.worker.start()
    assert service.wait_until_finished(within=30) == {"succeeded": 51}


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
            within=20,
            what="the relay prunes what nobody replays",
        )
    assert service.wait_until_finished(within=30) == {"succeeded": 1}
    assert service.effects([replayed]) == {replayed: 1}
