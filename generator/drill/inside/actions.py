"""Do to the service what each fault is: one function for each, by its name."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from . import messages
from .books import started
from .control import set_space
from .faults import FAULTS, POOLED
from .run import LONG_SECONDS, Run
from .service import FAKETIME, clock

GRACE_SECONDS = 5.0
"""How long a supervisor waits between SIGTERM and SIGKILL here."""

BUSY_KILLS = 12
DOWN_SECONDS = 3.0
FULL_SECONDS = 10.0
READ_ONLY_SECONDS = 10.0
SILENT_SECONDS = 30.0
"""Longer than a statement waits for its answer, by default."""
HOUR = 3600.0


def worker_killed(run: Run) -> None:
    """SIGKILL the worker, three times, in the middle of tasks."""
    with run.load():
        for share in (0.2, 0.45, 0.7):
            run.wait_until_sent(share)
            run.interrupt("worker killed", lambda _: run.service.worker.kill())


def worker_killed_busy(run: Run) -> None:
    """SIGKILL the worker, time and again, soon after it has begun to take tasks.

    While it starts again, the queue fills up.
    """
    with run.load():
        run.wait_until_sent(0.1)
        for _ in range(BUSY_KILLS):
            if not run.wait_until_more_start(run.random.randint(2, 8)):
                break

            with run.fault("busy worker killed"):
                run.service.worker.kill()


def child_killed(run: Run) -> None:
    """SIGKILL one process of the worker's pool, three times, while it runs a task."""
    with run.load():
        for share in (0.2, 0.45, 0.7):
            run.wait_until_sent(share)
            run.interrupt("child killed", _kill_one)


def worker_terminated(run: Run) -> None:
    """SIGTERM the worker, and SIGKILL it after its grace: short and long tasks."""
    with run.load():
        run.wait_until_sent(0.25)
        short = run.start_long_tasks(seconds=GRACE_SECONDS / 2)
        run.say("worker told to end, tasks shorter than its grace")
        _terminate(run)
        run.wait_until_sent(0.6)
        what = "worker told to end, tasks longer than its grace"
        run.interrupt(what, lambda _: _terminate(run), 2 * GRACE_SECONDS)

    run.settle()
    starts = started(run.books)
    again = sum(len(starts[each]) > 1 for each in short)
    run.expect(not again, f"{again} tasks that fitted into the grace were interrupted")


def worker_frozen(run: Run) -> None:
    """SIGSTOP the worker past its lease, let another take over, then SIGCONT it.

    The broker may hand the first message to the frozen worker, whose connections are
    open; the relay misses it after another lease.
    """
    with run.load():
        run.wait_until_sent(0.3)
        run.start_long_tasks()
        with run.fault("worker frozen"):
            run.service.worker.suspend()
            run.service.run("worker", "worker-2")
            run.wait_until_running_again()

        time.sleep(LONG_SECONDS / 2)  # It wakes while the other attempt runs.
        run.say("worker wakes")
        run.service.worker.resume()


def broker_killed(run: Run) -> None:
    """SIGKILL the broker and start it again: busy with retries pending, then idle."""
    with run.load():
        run.wait_until_sent(0.3)
        with run.fault("broker killed, busy"):
            _kill_broker(run)
    run.settle()
    with run.fault("broker killed, idle"):
        _kill_broker(run)
    with run.load(tasks=max(20, run.traffic.planned // 10)):
        pass


def broker_emptied(run: Run) -> None:
    """Let a full broker come back without its data."""
    with run.load():
        run.wait_until_sent(0.3)
        run.service.worker.suspend()
        run.wait_until_sent(0.6)
        with run.fault("broker emptied"):
            run.broker.kill()
            for data in run.servers.scratch.glob(f"{run.order.broker}-*/*"):
                shutil.rmtree(data) if data.is_dir() else data.unlink()
            run.broker.start()

        run.service.worker.resume()


def broker_silent(run: Run) -> None:
    """Let the broker refuse connections, then accept them and fall silent."""
    assert run.proxy is not None
    outage = run.order.outage
    with run.load(seconds=3 * outage):
        run.wait_until_sent(0.25)
        with run.fault("broker refuses"):
            run.proxy.refuse()
            time.sleep(outage)
        run.proxy.accept()

        with run.fault("broker hangs"):
            run.proxy.hang()
            time.sleep(outage)
        run.proxy.accept()


def api_killed(run: Run) -> None:
    """SIGKILL the API straight after a 2xx, five times, while its tasks run or wait."""
    with run.load():
        for share in (0.15, 0.3, 0.45, 0.6, 0.75):
            run.wait_until_sent(share)
            if run.service.is_embedded:
                run.interrupt("API killed", lambda _: _kill_api(run))
            else:
                with run.fault("API killed"):
                    _kill_api(run)


def api_killed_at_commit(run: Run) -> None:
    """SIGKILL the API after a commit, and who takes tasks before they travel on."""
    with run.load():
        for number, share in enumerate((0.15, 0.3, 0.45, 0.6, 0.75)):
            run.wait_until_sent(share)
            with run.fault("API killed at commit"):
                taking = number % 2 and run.has_ledger
                run.arm(f"{run.service.taker}-taken" if taking else "api-committed")
                run.traffic.send()


def database_restarted(run: Run) -> None:
    """Restart PostgreSQL, then cut all its connections."""
    assert run.servers.postgresql is not None
    with run.load():
        run.wait_until_sent(0.25)
        run.start_long_tasks()
        with run.fault("database restarted"):
            run.servers.postgresql.stop()
            run.servers.postgresql.start()
            run.wait_until_running_again()

        run.wait_until_sent(0.6)
        run.interrupt("connections cut", lambda _: _cut_connections(run))


def database_silent(run: Run) -> None:
    """Pass nothing on any more between the service and PostgreSQL but new connections.

    As when another machine has taken its address over without a word.
    """
    with run.load(seconds=2 * SILENT_SECONDS):
        for share in (0.2, 0.6):
            run.wait_until_sent(share)
            run.start_long_tasks()
            with run.fault("connections silent"):
                _silence(run)
                run.wait_until_running_again()


def database_read_only(run: Run) -> None:
    """Let PostgreSQL refuse to write for a while, to old and to new connections."""
    with run.load(seconds=2 * READ_ONLY_SECONDS):
        run.wait_until_sent(0.25)
        run.start_long_tasks()
        with run.fault("database read-only"):
            _refuse_writes(run, READ_ONLY_SECONDS)
            run.wait_until_running_again()


def pgbouncer_sessions(run: Run) -> None:
    """SIGKILL PgBouncer and start it again, then the worker, twice."""
    assert run.pgbouncer is not None
    with run.load():
        for share in (0.2, 0.6):
            run.wait_until_sent(share)
            run.start_long_tasks()
            with run.fault("PgBouncer killed"):
                run.pgbouncer.kill()
                run.pgbouncer.start()
                run.wait_until_running_again()
            run.interrupt("worker killed", lambda _: run.service.worker.kill())


def pgbouncer_transactions(run: Run) -> None:
    """Do the same where each transaction may have another connection."""
    pgbouncer_sessions(run)


def relay_killed(run: Run) -> None:
    """SIGKILL the relay, three times, then run two of them."""
    with run.load():
        for share in (0.2, 0.4, 0.6):
            run.wait_until_sent(share)
            with run.fault("relay killed"):
                run.service.relay.kill()
                delayed = run.traffic.send(delay=0.5)
                run.wait_until_started(delayed)
        run.service.run("relay", "relay-2")
        run.traffic.send(delay=1)


def messages_repeated(run: Run) -> None:
    """Deliver every task three times, and its message when it has long ended."""
    with run.load():
        run.wait_until_sent(0.6)
        with run.fault("messages repeated"):
            messages.push_again(run)
    run.settle()

    before = sum(map(len, started(run.books).values()))
    messages.push_again(run)
    run.traffic.send()
    run.settle()
    after = sum(map(len, started(run.books).values()))
    run.expect(
        after == before + 1, f"late messages started {after - before - 1} ended tasks"
    )


def poison(run: Run) -> None:
    """Enqueue tasks that kill their process each time, among good ones."""
    with run.load():
        for share in (0.2, 0.5):
            run.wait_until_sent(share)
            with run.fault("poison"):
                run.traffic.send(name="drill_poison")
                run.start_long_tasks(2)


def strangers(run: Run) -> None:
    """Put into the queue what no enqueue has sent, such as garbage and forged ids."""
    opened = run.folder / "unpickled"
    with run.load():
        run.wait_until_sent(0.3)
        with run.fault("strangers"):
            for _ in range(3):
                messages.push_strangers(run, opened)
    run.settle()
    run.expect(not opened.exists(), "a pickle was opened")


def clocks_apart(run: Run) -> None:
    """Run a worker one hour ahead, another and a relay one hour behind."""
    run.service.run("worker", "worker-2")
    if run.service.has_relay:
        run.service.run("relay", "relay-2")
    with run.load():
        for share in (0.3, 0.6):
            run.wait_until_sent(share)
            run.interrupt(
                "worker killed, clocks apart", lambda _: run.service.worker.kill()
            )

    run.settle()
    shifts = {
        round((each[3] - each[2]) / HOUR)
        for all_ in started(run.books).values()
        for each in all_
    }

    by = "libfaketime" if FAKETIME else "sitecustomize"
    run.notes.append(f"clocks of the workers, by {by}: {sorted(shifts)} h")
    run.expect(shifts & {-1, 1}, "no clock was shifted")


def broker_full(run: Run) -> None:
    """Leave the broker no space: it refuses or blocks whatever is written to it."""
    with run.load(seconds=2.5 * FULL_SECONDS):
        run.wait_until_sent(0.3)
        with run.fault("broker full"):
            set_space(run.broker, has_space=False)
            time.sleep(FULL_SECONDS)
        set_space(run.broker, has_space=True)


def everything(run: Run) -> None:
    """Do all of it at random."""
    tasks = run.order.tasks or 10_000
    actions = _all_actions(run)

    end = time.monotonic() + run.order.duration
    bag: list[Callable[[Run], None]] = []
    with run.load(seconds=run.order.duration, tasks=tasks), run.fault("everything"):
        while time.monotonic() < end:
            if not bag:  # Each of them once, in any order, before any of them again.
                bag = run.random.sample(actions, len(actions))
            run.traffic.send(seconds=run.random.uniform(0.5, LONG_SECONDS))
            run.say(f"fault {len(run.moments)}, {end - time.monotonic():.0f} s left")
            run.moments.append(time.time())
            bag.pop()(run)
            time.sleep(run.random.uniform(1, 4))

    run.notes.append(f"{len(run.moments) - 1} faults")


def _all_actions(run: Run) -> list[Callable[[Run], None]]:
    actions: list[Callable[[Run], None]] = [
        lambda run: run.service.api.kill(),
        lambda run: run.arm("api-committed"),
        lambda run: run.arm(f"{run.service.taker}-taken"),
        _freeze,
        _poison_once,
    ]

    if not run.service.is_embedded:
        actions += [
            lambda run: run.service.worker.kill(),
            lambda run: run.service.worker.kill(),
            _terminate,
            _restart_database,
            _cut_connections,
            _silence,
            lambda run: _refuse_writes(run, DOWN_SECONDS),
        ]
    if run.order.engine in POOLED and not run.service.is_embedded:
        actions.append(lambda run: _kill_one(run.start_long_tasks()))
    if run.servers.broker is not None:
        actions += [
            lambda run: run.service.relay.kill(),
            lambda run: run.service.run("relay", f"relay-{uuid4().hex[:4]}").stop(),
            _kill_broker,
            lambda run: messages.empty(run.broker.url),
            _refuse,
            _hang,
            lambda run: messages.push_again(run, 200),
            lambda run: messages.push_strangers(run, run.folder / "unpickled"),
            _fill_up,
        ]

    return actions


def _kill_one(running: dict[UUID, int]) -> None:
    for process in list(running.values())[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _kill_api(run: Run) -> None:
    run.traffic.send()
    run.service.api.kill()
    run.traffic.send()


def _terminate(run: Run) -> None:
    with contextlib.suppress(AssertionError):  # It was killed, then.
        run.service.worker.terminate(within=GRACE_SECONDS)
    run.service.worker.start()


def _freeze(run: Run) -> None:
    run.service.worker.suspend()
    time.sleep(run.order.lease + 2)
    run.service.worker.resume()


def _kill_broker(run: Run) -> None:
    run.broker.kill()
    time.sleep(DOWN_SECONDS)
    run.broker.start()


def _refuse(run: Run) -> None:
    assert run.proxy is not None
    run.proxy.refuse()
    time.sleep(DOWN_SECONDS)
    run.proxy.accept()


def _hang(run: Run) -> None:
    assert run.proxy is not None
    run.proxy.hang()
    time.sleep(2 * DOWN_SECONDS)
    run.proxy.accept()


def _restart_database(run: Run) -> None:
    assert run.servers.postgresql is not None
    run.servers.postgresql.stop()
    run.servers.postgresql.start()


def _cut_connections(run: Run) -> None:
    assert run.servers.databases is not None
    run.servers.databases.cut_connections()


def _silence(run: Run) -> None:
    assert run.database_proxy is not None
    run.database_proxy.silence()


def _refuse_writes(run: Run, seconds: float) -> None:
    assert run.servers.databases is not None
    run.servers.databases.set_read_only(is_read_only=True)
    try:
        time.sleep(seconds)
    finally:
        run.servers.databases.set_read_only(is_read_only=False)


def _poison_once(run: Run) -> None:
    run.traffic.send(name="drill_poison")


def _fill_up(run: Run) -> None:
    set_space(run.broker, has_space=False)
    time.sleep(DOWN_SECONDS)
    set_space(run.broker, has_space=True)


ACTIONS: dict[str, Callable[[Run], None]] = {
    name: globals()[name.replace("-", "_")] for name in FAULTS
}
"""What is done, by the fault's name; a fault without a function fails at the start."""

OVERRIDES = {
    "messages-repeated": {
        name: {"DRILL_REPEAT": "3"} for name in ("api", "relay", "worker")
    },
    "clocks-apart": {
        "worker": clock(HOUR),
        "worker-2": clock(-HOUR),
        "relay-2": clock(-HOUR),
    },
}
"""The settings with which the processes of a fault are started, by the fault's name."""
