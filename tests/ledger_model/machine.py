"""Let anything happen to tasks, in any order, and judge each step by the laws."""

import dataclasses
import itertools
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from app.database import session_factory
from app.delivery import ledger, relay

from .actors import (
    Answer,
    Deed,
    Relay,
    Worker,
    act,
    loop,
    patient,
    single,
    stranger,
    write,
)
from .faults import Fault, Kind, fuse
from .laws import LEASE, RETENTION, Doing, Judge, doing, is_due, is_stuck
from .stage import IS_SQLITE, broker, storage
from .storage import Row

MAX_TASKS = 6
MAX_WORKERS = 4
MAX_RELAYS = 2

FAULTS = st.sampled_from(
    [None] * 120 + [Fault(kind, n) for kind in Kind for n in range(8)]
)
MANY_FAULTS = st.sampled_from(
    [None] * 24 + [Fault(kind, n) for kind in Kind for n in range(8)]
)
TASKS = st.sampled_from([patient] * 5 + [single] * 2 + [stranger])
COUNTS = st.sampled_from([1, 2, 3])
PICK = st.sampled_from(range(8))
RARELY = st.sampled_from([False] * 4 + [True])
ANSWERS = st.sampled_from([Answer.ACCEPTED] * 15 + list(Answer))
HARD_ANSWERS = st.sampled_from(list(Answer))
DELAYS = st.sampled_from([0, 0, 0, 0, 0, 0, 20, 3600])
TIMES = st.sampled_from([1, 11, 31, 31, 31, 3601, *[RETENTION.total_seconds() + 1] * 2])
_ENDS = ["returns"] * 3 + ["raises", "raises CancelledError"]
# SQLite lets one transaction write at a time: there, a task that has written must end
# at once.
DEEDS = st.sampled_from(
    [
        Deed(effect, child, end)
        for end in _ENDS
        for effect in (True, False)
        for child in (False,)
    ]
    + [Deed(effect=True, child=True, end=end) for end in _ENDS]
    + ([] if IS_SQLITE else [Deed(effect=True), Deed(child=True), Deed(effect=True)])
)


class Ledger(Judge):
    """The ledger, and processes around it that may fail at any statement."""

    def __init__(self) -> None:
        super().__init__()
        # Those of one millisecond have no order, by which messages and claims are
        # sorted.
        numbers = itertools.count(1)
        ledger.uuid7 = lambda *_: UUID(int=next(numbers))
        relay.BATCH = 3

        self.workers: list[Worker] = []
        self.relays: list[Relay] = []
        self.sessions: list[Any] = []
        self.claims: set[tuple[UUID, int]] = set()
        self.broker_comes_back_empty = False

    @initialize(broker_comes_back_empty=st.booleans(), task=TASKS, count=COUNTS)
    def begin(self, broker_comes_back_empty: bool, task: Any, count: int) -> None:
        self.broker_comes_back_empty = broker_comes_back_empty
        self.request(
            task=task, delay=0, has_key=False, count=count, end="commits", fault=None
        )

    # --- Requests.

    @precondition(lambda self: len(self.now.rows) < MAX_TASKS)
    @rule(
        task=TASKS,
        delay=DELAYS,
        has_key=RARELY,
        count=COUNTS,
        end=st.sampled_from(["commits", "commits", "rolls back", "stays open"]),
        fault=FAULTS,
    )
    def request(
        self,
        task: Any,
        delay: int,
        has_key: bool,
        count: int,
        end: str,
        fault: Fault | None,
    ) -> None:
        # It would wait for another's key to be decided.
        has_key = has_key and not self.sessions

        options = dataclasses.replace(
            task, delay=timedelta(seconds=delay), key="key" if has_key else None
        )
        stays_open = end == "stays open" and not IS_SQLITE and not has_key
        act(self._request(options, count, end == "rolls back", stays_open), fault)
        self.look(doing("record"))

    async def _request(
        self, task: Any, count: int, rolls_back: bool, stays_open: bool
    ) -> None:
        session = session_factory()
        try:
            for _ in range(count):
                recorded = await ledger.record(
                    session,
                    task,
                    task.dump_arguments() if task is not stranger else "{}",
                )
                if recorded.created:
                    await write(session, "request", recorded.id)

            if stays_open and len(self.sessions) < 2:
                self.sessions.append(session)
                return
            if not rolls_back:
                await session.commit()
        finally:
            if session not in self.sessions:
                await session.close()

    @precondition(lambda self: self.sessions)
    @rule(pick=PICK, commits=st.booleans(), fault=FAULTS)
    def end_request(self, pick: int, commits: bool, fault: Fault | None) -> None:
        session = self.sessions.pop(pick % len(self.sessions))

        async def end() -> None:
            try:
                if commits:
                    await session.commit()
            finally:
                await session.close()

        act(end(), fault)
        self.look(doing("record"))

    # --- Relays.

    @precondition(
        lambda self: self._is_anything_due() and len(self.relays) < MAX_RELAYS
    )
    @rule(parks=RARELY, answer=ANSWERS, fault=FAULTS)
    def publish(self, parks: bool, answer: Answer, fault: Fault | None) -> None:
        self._relay(
            lambda: Relay(publishes=True, parks=parks, answer=answer),
            doing("publish"),
            fault,
        )

    @precondition(
        lambda self: self._is_any_published() and len(self.relays) < MAX_RELAYS
    )
    @rule(parks=RARELY, answer=ANSWERS, counts_late=st.booleans(), fault=FAULTS)
    def find_lost(
        self, parks: bool, answer: Answer, counts_late: bool, fault: Fault | None
    ) -> None:
        self._relay(
            lambda: Relay(
                publishes=False, parks=parks, answer=answer, counts_late=counts_late
            ),
            doing("find"),
            fault,
            is_racy=any(other.on_its_way for other in self.relays),
        )

    @precondition(lambda self: self.relays)
    @rule(pick=PICK, answer=HARD_ANSWERS, fault=FAULTS)
    def answer_relay(self, pick: int, answer: Answer, fault: Fault | None) -> None:
        acting = self.relays[pick % len(self.relays)]
        fuse.reset(fault)
        acting.go("broker", answer)
        self._after_relay(acting)
        self.look(doing("publish" if acting.publishes else "find"), is_racy=True)

    @precondition(lambda self: self.relays)
    @rule(pick=PICK, dies=st.booleans(), fault=FAULTS)
    def end_relay(self, pick: int, dies: bool, fault: Fault | None) -> None:
        acting = self.relays[pick % len(self.relays)]
        fuse.reset(fault)
        acting.end(dies=dies)
        self._after_relay(acting)
        self.look(doing("publish" if acting.publishes else "find"))

    def _relay(
        self, start: Any, what: Doing, fault: Fault | None, *, is_racy: bool = False
    ) -> None:
        fuse.reset(fault)
        acting = start()
        acting.start()
        self.relays.append(acting)
        self._after_relay(acting)
        self.look(what, is_racy=is_racy)

    def _after_relay(self, acting: Relay) -> None:
        fuse.reset()
        if acting.is_over:
            self.relays.remove(acting)
            self.demand_no_failure(acting)

    @precondition(
        lambda self: self._is_any_unfinished() and len(self.relays) < MAX_RELAYS
    )
    @rule()
    def pass_a_lease_and_publish(self) -> None:
        self._pass_time(LEASE.total_seconds() + 1)
        self.publish(parks=False, answer=Answer.ACCEPTED, fault=None)

    def _is_anything_due(self) -> bool:
        return any(is_due(row, self.now) for row in self.now.rows.values())

    def _is_any_published(self) -> bool:
        rows = self.now.rows.values()
        return any(
            row.status == "queued" and row.published_at is not None for row in rows
        )

    def _is_any_unfinished(self) -> bool:
        return not all(row.has_ended for row in self.now.rows.values())

    # --- The broker.

    @precondition(lambda _: bool(broker.waiting))
    @rule(pick=PICK, comes_back_empty=RARELY)
    def lose_messages(self, pick: int, comes_back_empty: bool) -> None:
        pick %= len(broker.waiting)
        lost = slice(None) if comes_back_empty else slice(pick, pick + 1)
        broker.reasons += len(broker.waiting[lost])
        del broker.waiting[lost]

    # --- Workers.

    @precondition(lambda self: bool(broker.waiting) and len(self.workers) < MAX_WORKERS)
    @rule(pick=PICK, will_repeat=RARELY, fault=FAULTS)
    def deliver(self, pick: int, will_repeat: bool, fault: Fault | None) -> None:
        at = pick % len(broker.waiting)
        message = broker.waiting[at]
        if not will_repeat:
            del broker.waiting[at]

        before = self.now.rows.get(message.id)
        self._execute(message.id, fault)
        after = self.now.rows.get(message.id)
        if not will_repeat and (
            not before or not after or before.attempts == after.attempts
        ):
            broker.reasons += 1  # It is gone, and nothing came of it.

    @precondition(
        lambda self: self._is_anything_due() and len(self.workers) < MAX_WORKERS
    )
    @rule(pick=PICK)
    def publish_and_deliver(self, pick: int) -> None:
        if len(self.relays) < MAX_RELAYS:
            self.publish(parks=False, answer=Answer.ACCEPTED, fault=None)
        if broker.waiting:
            self.deliver(pick=pick, will_repeat=False, fault=None)

    @precondition(
        lambda self: self._is_anything_due() and not self.workers and not self.relays
    )
    @rule(ends=st.booleans())
    def deliver_before_the_refusal(self, ends: bool) -> None:
        self.publish(parks=True, answer=Answer.ACCEPTED, fault=None)
        if self.relays and self.relays[0].on_its_way:
            self.answer_relay(pick=0, answer=Answer.UNCONFIRMED, fault=None)
        if self.relays and broker.waiting:
            self.deliver(pick=-1, will_repeat=False, fault=None)
        if self.workers and ends:
            self.succeed(pick=0, has_effect=True)

    @precondition(lambda self: bool(broker.carried) and len(self.workers) < MAX_WORKERS)
    @rule(pick=PICK, fault=FAULTS)
    def deliver_late(self, pick: int, fault: Fault | None) -> None:
        self._execute(broker.carried[pick % len(broker.carried)].id, fault)

    @precondition(
        lambda self: self._is_anything_due() and len(self.workers) < MAX_WORKERS
    )
    @rule(fault=FAULTS)
    def claim_due(self, fault: Fault | None) -> None:
        claims: list[ledger.Claim] = []

        async def claim() -> None:
            claims.extend(await ledger.claim_due(MAX_WORKERS - len(self.workers)))

        act(claim(), fault)
        self.look(doing("take"))

        # PostgreSQL knows no order.
        for claimed in sorted(claims, key=lambda each: each.id):
            self._start(Worker(claimed.id, claimed))
            self.look(doing("end", task=claimed.id, attempt=claimed.attempt))

    def _execute(self, task_id: UUID, fault: Fault | None) -> None:
        fuse.reset(fault)
        self._start(Worker(task_id))
        self.look(doing("claim", task=task_id))

    def _start(self, worker: Worker) -> None:
        worker.start()
        self.workers.append(worker)
        self._after_worker(worker)
        if not worker.is_over:
            if (worker.task_id, worker.attempt) in self.claims:
                self.complain(
                    f"two workers have attempt {worker.attempt} of {worker.task_id}"
                )
            self.claims.add((worker.task_id, worker.attempt))

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, deed=DEEDS, fault=MANY_FAULTS)
    def work(self, pick: int, deed: Deed, fault: Fault | None) -> None:
        worker = self.workers[pick % len(self.workers)]
        fuse.reset(fault)
        worker.go("body", deed)
        self._after_worker(worker)
        self.look(doing("end", "record", task=worker.task_id, attempt=worker.attempt))

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, has_effect=st.booleans())
    def succeed(self, pick: int, has_effect: bool) -> None:
        deed = Deed(effect=has_effect, end="returns")
        self.work(pick=pick, deed=deed, fault=None)

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, fault=FAULTS)
    def heartbeat(self, pick: int, fault: Fault | None) -> None:
        worker = self.workers[pick % len(self.workers)]
        fuse.reset(fault)
        worker.go("heart")
        self._after_worker(worker)
        goes_on = fault is None and not worker.is_over

        # A cancellation that arrives here is a shutdown: the attempt is given back.
        self.look(doing("beat", "end", task=worker.task_id, attempt=worker.attempt))
        wake_at = self.now.rows[worker.task_id].wake_at if goes_on else None
        if wake_at and wake_at < self.now.now + LEASE / 2:
            self.complain("a heartbeat has not renewed the lease")

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, dies=st.booleans(), fault=FAULTS)
    def end_worker(self, pick: int, dies: bool, fault: Fault | None) -> None:
        worker = self.workers[pick % len(self.workers)]
        fuse.reset(fault)
        worker.end(dies=dies)
        self._after_worker(worker)
        self.look(doing("end", task=worker.task_id, attempt=worker.attempt))

    def _after_worker(self, worker: Worker) -> None:
        worker.bury()
        fuse.reset()
        if worker.is_over:
            self.workers.remove(worker)
            self.demand_no_failure(worker)

    # --- Operators, and time.

    @precondition(lambda self: self.now.rows)
    @rule(
        order=st.sampled_from(["cancel", "replay", "prune"]),
        pick=PICK,
        count=st.sampled_from([1, 2]),
        fault=FAULTS,
    )
    def operate(self, order: str, pick: int, count: int, fault: Fault | None) -> None:
        task_id = list(self.now.rows)[pick % len(self.now.rows)]
        if order == "cancel":
            act(ledger.cancel(task_id), fault)
        elif order == "replay":
            act(ledger.replay(task_id, count), fault)
        else:
            if count > 1:
                self._pass_time(RETENTION.total_seconds() + 1)
            act(ledger.prune(count), fault)
        self.look(doing(order, task=task_id, granted=count))

    @precondition(lambda self: self.now.rows)
    @rule(seconds=TIMES)
    def pass_time(self, seconds: float) -> None:
        self._pass_time(seconds)

    def _pass_time(self, seconds: float) -> None:
        broker.reasons += sum(len(each.on_its_way) for each in self.relays)
        loop.run_until_complete(storage.pass_time(seconds))
        before, self.now = self.now, loop.run_until_complete(storage.look())

        # What was published long ago is published again, whatever the broker says.
        broker.reasons += sum(
            old.published_at is not None
            and not is_due(old, before)
            and is_due(self.now.rows[old.id], self.now)
            for old in before.rows.values()
            if old.status == "queued"
        )

    # --- The end: faults stop, and everything ends.

    def teardown(self) -> None:
        """Let every process die, and undisturbed new ones end every task."""
        for actor in [*self.workers, *self.relays]:
            fuse.reset()
            actor.end(dies=True)
            if isinstance(actor, Worker):
                actor.bury()

        fuse.reset()
        for session in self.sessions:
            loop.run_until_complete(session.close())
        self.workers, self.relays = [], []

        if self.is_sound:
            self._drain()

    def _drain(self) -> None:
        relay.BATCH = 100
        if self.broker_comes_back_empty:
            broker.waiting.clear()

        for _ in range(4):
            if not self._run_everything(31, compares=True):
                break
        if self.broker_comes_back_empty and (
            stuck := list(filter(is_stuck, self._unfinished()))
        ):
            self.complain(f"not run within a lease: {stuck}")

        for _ in range(6):
            if not self._run_everything(3700, compares=False):
                break
        if stuck := self._unfinished():
            self.complain(f"never run: {stuck}")
        self.demand_truth()

    def _unfinished(self) -> list[Row]:
        return [row for row in self.now.rows.values() if not row.has_ended]

    def _run_everything(self, seconds: float, *, compares: bool) -> list[Row]:
        if not self._unfinished():
            return []

        self._pass_time(seconds)
        # Counted while there were faults; here only the end counts.
        broker.reasons += 1000
        if compares:
            act(relay.find_lost(), None)
        while loop.run_until_complete(relay.publish_due()):
            pass

        while broker.waiting:
            worker = Worker(broker.waiting.pop(0).id)
            worker.start()
            if not worker.is_over:
                worker.go("body", Deed(effect=True, end="returns"))
            if not worker.is_over:
                self.complain(f"a worker has not ended: {worker.task_id}")

        self.now = loop.run_until_complete(storage.look())
        return self._unfinished()
