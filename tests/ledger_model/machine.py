"""Let anything happen to tasks, in any order, and judge each step by the laws."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from app.database import session_factory
from app.delivery import BoundTask, ledger, relay, retention, worker
from app.delivery.due import DueTasks
from app.settings import settings

from .actors import (
    Answer,
    Deed,
    Key,
    Process,
    Relay,
    Worker,
    act,
    clock,
    loop,
    patient,
    single,
    stranger,
    write,
)
from .faults import Fault, Kind, fuse
from .laws import (
    LEASE,
    RETENTION,
    Doing,
    Judge,
    doing,
    ended,
    is_due,
    is_published,
    is_stuck,
    state,
)
from .stage import IS_SQLITE, broker, storage
from .storage import Row, Snapshot

# What may become of an attempt that a signal stops.
_AT_A_SIGNAL = {"announced", "given back"}

MAX_TASKS = 6
MAX_WORKERS = 3
MAX_BODIES = 4
MAX_RELAYS = 2

FAULTS = st.sampled_from(
    [None] * 120 + [Fault(kind, n) for kind in Kind for n in range(8)]
)
MANY_FAULTS = st.sampled_from(
    [None] * 24 + [Fault(kind, n) for kind in Kind for n in range(8)]
)
END_FAULTS = st.sampled_from([Fault(kind, n) for kind in Kind for n in range(5)])
TASKS = st.sampled_from([patient] * 5 + [single] * 2 + [stranger])
COUNTS = st.sampled_from([1, 2, 3])
PICK = st.sampled_from(range(8))
RARELY = st.sampled_from([False] * 4 + [True])
ANSWERS = st.sampled_from([Answer.ACCEPTED] * 15 + list(Answer))
HARD_ANSWERS = st.sampled_from(list(Answer))
DELAYS = st.sampled_from([0, 0, 0, 0, 0, 0, 20, 3600])
TIMES = st.sampled_from([1, 11, 31, 31, 31, 3601, *[RETENTION.total_seconds() + 1] * 2])
_MEANT = {"cancel": {"queued", "running"}, "replay": {"failed", "cancelled"}}
"""Whom an operator orders it for, if there are any."""
BEATS = st.sampled_from([None] * 4 + ["before", "after"])
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
    + [Deed(when_stopped="raises"), Deed(when_stopped="returns")]
    + ([] if IS_SQLITE else [Deed(effect=True), Deed(child=True), Deed(effect=True)])
)


class Ledger(Judge):
    """The ledger, and processes around it that may fail at any statement."""

    def __init__(self) -> None:
        super().__init__()
        # Those of one millisecond have no order, by which messages and claims are
        # sorted.
        numbers = itertools.count(1)
        ledger.uuid7 = lambda **_: UUID(int=next(numbers))
        relay.BATCH = 3
        worker.CONCURRENCY = 3
        settings.drain_seconds = 0
        clock.ahead = 0.0

        self.workers: list[Worker] = []
        self.relays: list[Relay] = []
        self.sessions: list[Any] = []
        self.due_tasks = [DueTasks(), DueTasks()]
        self.known_to: dict[Worker, set[UUID]] = {}
        self.broker_comes_back_empty = False
        self.ends_without_broker = False

    @initialize(
        broker_comes_back_empty=st.booleans(),
        ends_without_broker=st.booleans(),
        task=TASKS,
        count=COUNTS,
    )
    def begin(
        self,
        broker_comes_back_empty: bool,
        ends_without_broker: bool,
        task: Any,
        count: int,
    ) -> None:
        self.broker_comes_back_empty = broker_comes_back_empty
        self.ends_without_broker = ends_without_broker
        self.request(
            tasks=[task] * count,
            delay=0,
            has_key=False,
            in_one=True,
            end="commits",
            fault=None,
        )

    # --- Requests.

    @precondition(lambda self: len(self.now.rows) < MAX_TASKS)
    @rule(
        tasks=st.lists(TASKS, min_size=1, max_size=3),
        delay=DELAYS,
        has_key=RARELY,
        in_one=st.booleans(),
        end=st.sampled_from(["commits", "commits", "rolls back", "stays open"]),
        fault=FAULTS,
    )
    def request(
        self,
        tasks: list[Any],
        delay: int,
        has_key: bool,
        in_one: bool,
        end: str,
        fault: Fault | None,
    ) -> None:
        # It would wait for another's key to be decided.
        has_key = has_key and not self.sessions

        options = {
            "delay": timedelta(seconds=delay),
            "key": "key" if has_key else None,
        }
        calls = [
            BoundTask(dataclasses.replace(task, **options), "{}") for task in tasks
        ]
        stays_open = end == "stays open" and not IS_SQLITE and not has_key
        lists = [calls] if in_one else [[call] for call in calls]
        act(self._request(lists, end == "rolls back", stays_open), fault)
        self.look(doing("record"))

    async def _request(
        self, lists: list[list[BoundTask]], rolls_back: bool, stays_open: bool
    ) -> None:
        session = session_factory()
        try:
            for calls in lists:
                recorded = await ledger.record(session, calls)
                for call, each in zip(calls, recorded, strict=True):
                    self.named[each.id] = call.task.name
                    if each.created:
                        await write(session, "request", each.id)

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
    @rule(pick=PICK, parks=RARELY, answer=ANSWERS, fault=FAULTS)
    def publish(
        self, pick: int, parks: bool, answer: Answer, fault: Fault | None
    ) -> None:
        due_tasks = self.due_tasks[pick % 2]
        self._relay(
            lambda: Relay(due_tasks, parks=parks, answer=answer),
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
            lambda: Relay(None, parks=parks, answer=answer, counts_late=counts_late),
            doing("find"),
            fault,
            is_racy=any(other.on_its_way for other in self.relays),
        )

    @precondition(lambda self: self.relays)
    @rule(pick=PICK, answer=HARD_ANSWERS, fault=FAULTS)
    def answer_relay(self, pick: int, answer: Answer, fault: Fault | None) -> None:
        acting = self.relays[pick % len(self.relays)]
        fuse.reset(fault)
        acting.question.set_result(answer)
        self._after_relay(acting)
        self.look(doing("publish" if acting.publishes else "find"), is_racy=True)

    @precondition(lambda self: self.relays)
    @rule(pick=PICK, dies=st.booleans(), fault=FAULTS)
    def end_relay(self, pick: int, dies: bool, fault: Fault | None) -> None:
        acting = self.relays[pick % len(self.relays)]
        fuse.reset(fault)
        if dies:
            acting.die()
        else:
            acting.shut_down()
        self._after_relay(acting)
        self.look(doing("publish" if acting.publishes else "find"))

    def _relay(
        self,
        start: Callable[[], Relay],
        what: Doing,
        fault: Fault | None,
        *,
        is_racy: bool = False,
    ) -> None:
        fuse.reset(fault)
        acting = start()
        self.relays.append(acting)
        self._after_relay(acting)
        self.look(what, is_racy=is_racy)

    def _after_relay(self, acting: Relay) -> None:
        acting.settle()
        fuse.reset()
        if acting.is_over:
            acting.leave()
            self.relays.remove(acting)
        for error in acting.failures():
            self.complain(f"a relay failed: {error!r}")

    @precondition(
        lambda self: self._is_any_unfinished() and len(self.relays) < MAX_RELAYS
    )
    @rule()
    def pass_a_lease_and_publish(self) -> None:
        self._pass_time(LEASE.total_seconds() + 1)
        self.publish(pick=0, parks=False, answer=Answer.ACCEPTED, fault=None)

    def _is_anything_due(self) -> bool:
        return any(is_due(row, self.now) for row in self.now.rows.values())

    def _is_any_published(self) -> bool:
        return any(is_published(row) for row in self.now.rows.values())

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

    @precondition(lambda self: self._is_anything_due() and not self.relays)
    @rule(comes_back_empty=st.booleans())
    def lose_what_is_published(self, comes_back_empty: bool) -> None:
        self.publish(pick=0, parks=False, answer=Answer.ACCEPTED, fault=None)
        if broker.waiting:
            self.lose_messages(pick=-1, comes_back_empty=comes_back_empty)
        if self._is_any_published():
            self.find_lost(
                parks=False, answer=Answer.ACCEPTED, counts_late=False, fault=None
            )

    # --- Workers.

    @precondition(lambda self: bool(broker.waiting) and self._has_place())
    @rule(pick=PICK, place=PICK, will_repeat=RARELY, fault=FAULTS)
    def deliver(
        self, pick: int, place: int, will_repeat: bool, fault: Fault | None
    ) -> None:
        at = pick % len(broker.waiting)
        message = broker.waiting[at]
        if not will_repeat:
            del broker.waiting[at]

        before = self.now.rows.get(message.id)
        self._execute([message.id], place, fault)
        after = self.now.rows.get(message.id)
        if not will_repeat and (
            not before or not after or before.attempts == after.attempts
        ):
            broker.reasons += 1  # It is gone, and nothing came of it.

    @precondition(lambda self: bool(broker.carried) and self._has_place())
    @rule(picks=st.lists(PICK, min_size=2, max_size=3), place=PICK, fault=FAULTS)
    def deliver_together(
        self, picks: list[int], place: int, fault: Fault | None
    ) -> None:
        # The latest first: they wait, perhaps.
        carried = broker.carried[::-1]
        messages = [carried[pick % len(carried)] for pick in picks]
        self._execute([message.id for message in messages], place, fault)

    @precondition(lambda self: self._is_anything_due() and self._has_place())
    @rule(pick=PICK, place=PICK)
    def publish_and_deliver(self, pick: int, place: int) -> None:
        if len(self.relays) < MAX_RELAYS:
            self.publish(pick=0, parks=False, answer=Answer.ACCEPTED, fault=None)
        if broker.waiting:
            self.deliver(pick=pick, place=place, will_repeat=False, fault=None)

    @precondition(
        lambda self: self._is_anything_due() and not self.workers and not self.relays
    )
    @rule(ends=st.booleans())
    def deliver_before_the_refusal(self, ends: bool) -> None:
        self.publish(pick=0, parks=True, answer=Answer.ACCEPTED, fault=None)
        if self.relays and self.relays[0].on_its_way:
            self.answer_relay(pick=0, answer=Answer.UNCONFIRMED, fault=None)
        if self.relays and broker.waiting:
            self.deliver(pick=-1, place=0, will_repeat=False, fault=None)
        if self._bodies() and ends:
            self.succeed(pick=0, has_effect=True)

    @precondition(lambda self: bool(broker.carried) and self._has_place())
    @rule(pick=PICK, place=PICK, fault=FAULTS)
    def deliver_late(self, pick: int, place: int, fault: Fault | None) -> None:
        message = broker.carried[pick % len(broker.carried)]
        self._execute([message.id], place, fault)

    @precondition(lambda self: self._is_anything_due() and self._has_place())
    @rule(place=PICK, fault=MANY_FAULTS)
    def start_due(self, place: int, fault: Fault | None) -> None:
        acting = self._worker(place)
        fuse.reset(fault)
        acting.start_due()
        before = self.now
        self._after_worker(acting, doing("claim"), fault)
        if fault is not None and fault.kind is Kind.CANCELLED:
            self._demand_nothing_begun(acting, before)

    def _demand_nothing_begun(self, acting: Worker, before: Snapshot) -> None:
        """Complain about what a process has claimed and left at its shutdown."""
        if acting in self.workers:  # Its signal has not come.
            return
        for row in self.now.rows.values():
            old = before.rows.get(row.id)
            if row.status == "running" and old and old.attempts < row.attempts:
                self.complain(f"claimed and left at a shutdown: {row}")

    @precondition(lambda self: self._is_anything_due() and self._has_place())
    @rule(place=PICK, times=st.sampled_from([1, 2, 2, 2, 3, 5]))
    def start_due_and_die(self, place: int, times: int) -> None:
        for _ in range(times):
            if not self._has_place():
                return
            self.start_due(place=place, fault=None)
            acting = self._worker(place)
            if acting in self.workers:
                self.end_worker(pick=self.workers.index(acting), dies=True, fault=None)
            self._pass_time(LEASE.total_seconds() + 1)
        if self._is_anything_due():
            self.start_due(place=place, fault=None)

    def _has_place(self) -> bool:
        return len(self._bodies()) < MAX_BODIES

    def _bodies(self) -> list[tuple[Worker, Key]]:
        return [(each, key) for each in self.workers for key in each.bodies]

    def _worker(self, place: int) -> Worker:
        """Return a process that works, or a new one."""
        place %= min(len(self.workers) + 1, MAX_WORKERS)
        return self.workers[place] if place < len(self.workers) else Worker()

    def _execute(self, task_ids: list[UUID], place: int, fault: Fault | None) -> None:
        acting = self._worker(place)
        fuse.reset(fault)
        for task_id in task_ids:
            acting.execute(task_id)
        named = set(task_ids)
        task = task_ids[0] if len(named) == 1 else None
        self._after_worker(acting, doing("claim", task=task), fault)
        if touched := {key[0] for key in acting.held} - self.known_to[acting] - named:
            self.complain(f"claimed what nobody delivered: {touched}")

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, deed=DEEDS, beats=BEATS, fault=MANY_FAULTS)
    def work(
        self, pick: int, deed: Deed, beats: str | None, fault: Fault | None
    ) -> None:
        bodies = self._bodies()
        acting, key = bodies[pick % len(bodies)]
        self._order(acting, {key: deed}, beats, fault)

    @precondition(lambda self: any(len(each.bodies) > 1 for each in self.workers))
    @rule(
        pick=PICK,
        deeds=st.lists(DEEDS, min_size=3, max_size=3),
        beats=BEATS,
        fault=MANY_FAULTS,
    )
    def work_together(
        self, pick: int, deeds: list[Deed], beats: str | None, fault: Fault | None
    ) -> None:
        crowded = [each for each in self.workers if len(each.bodies) > 1]
        acting = crowded[pick % len(crowded)]
        orders = dict(zip(acting.bodies, deeds, strict=False))
        if not IS_SQLITE:
            # There, what several sessions do at a time comes in any order.
            orders = {
                key: deed._replace(effect=False, child=False)
                for key, deed in orders.items()
                if acting.bodies[key].context.opened_session is None
            }
        self._order(acting, orders, beats, fault)

    @precondition(lambda self: any(len(each.bodies) > 1 for each in self.workers))
    @rule(pick=PICK, loses=st.booleans())
    def succeed_together(self, pick: int, loses: bool) -> None:
        crowded = [each for each in self.workers if len(each.bodies) > 1]
        acting = crowded[pick % len(crowded)]
        orders = dict.fromkeys(acting.bodies, Deed(end="returns"))
        if loses:  # One of them, not always the first.
            lost = list(orders)[pick % len(orders)]
            act(ledger.cancel(lost[0]), None)
            self.look(doing("cancel", task=lost[0]))
        self._order(acting, orders, None, None)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, has_effect=st.booleans())
    def succeed(self, pick: int, has_effect: bool) -> None:
        deed = Deed(effect=has_effect, end="returns")
        self.work(pick=pick, deed=deed, beats=None, fault=None)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, deed=st.sampled_from(["returns", "raises"]), fault=END_FAULTS)
    def fail_to_end(self, pick: int, deed: str, fault: Fault) -> None:
        self.work(pick=pick, deed=Deed(end=deed), beats=None, fault=fault)

    def _order(
        self,
        acting: Worker,
        orders: Mapping[Key, Deed],
        beats: str | None,
        fault: Fault | None,
    ) -> None:
        """Tell bodies of a process what to do, while its heart beats perhaps."""
        fuse.reset(fault)
        if beats == "before":
            acting.beat()
        for key, deed in orders.items():
            acting.order(key, deed)
        if beats == "after":
            acting.beat()

        ends = {key: _ends(deed) for key, deed in orders.items()}
        beat = {"beat"} if beats else set()
        doing_this = doing("record", *beat, ends=ends)
        writes = [key for key, deed in orders.items() if deed.effect or deed.child]
        self._after_worker(acting, doing_this, fault, must=ends, fails=writes)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, place=PICK, is_late=st.booleans())
    def heartbeat_after_a_while(self, pick: int, place: int, is_late: bool) -> None:
        acting, _ = self._bodies()[pick % len(self._bodies())]
        self._pass_time(LEASE.total_seconds() * (1.1 if is_late else 0.7))
        if is_late and self._has_place() and self._is_anything_due():
            self.start_due(place=place, fault=None)
        if acting in self.workers:
            self.heartbeat(pick=self.workers.index(acting), fault=None)

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, fault=MANY_FAULTS)
    def heartbeat(self, pick: int, fault: Fault | None) -> None:
        acting = self.workers[pick % len(self.workers)]
        fuse.reset(fault)
        acting.beat()
        self._after_worker(acting, doing("beat"), fault)
        if fault is not None:
            return

        for task_id, attempt in acting.bodies:
            row = self.now.rows.get(task_id)
            if row is None or (row.status, row.attempts) != ("running", attempt):
                self.complain(f"attempt {attempt} of {task_id} goes on without a lease")
            elif row.wake_at and row.wake_at < self.now.now + LEASE / 2:
                self.complain("a heartbeat has not renewed a lease")

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, dies=st.booleans(), fault=FAULTS)
    def end_worker(self, pick: int, dies: bool, fault: Fault | None) -> None:
        acting = self.workers[pick % len(self.workers)]
        ends = {
            key: frozenset(
                {"succeeded"} if body.when_stopped == "returns" else {"given back"}
            )
            for key, body in acting.bodies.items()
        }
        fuse.reset(fault)
        if dies:
            acting.die()
        else:
            acting.shut_down()
        must = {} if dies else ends
        self._after_worker(acting, doing(ends=must), fault, must=must, ends=True)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, dies=st.booleans(), fault=FAULTS)
    def announce_shutdown(self, pick: int, dies: bool, fault: Fault | None) -> None:
        acting, _ = self._bodies()[pick % len(self._bodies())]
        claims = [body.context for body in acting.bodies.values()]
        ends = {key: frozenset({"announced"}) for key in acting.bodies}
        fuse.reset(fault)
        acting.begin(ledger.announce_shutdown(claims))
        self._after_worker(acting, doing(ends=ends), fault, must=ends)

        if dies and acting in self.workers:
            at = self.workers.index(acting)
            self.end_worker(pick=at, dies=True, fault=None)
            self._pass_time(LEASE.total_seconds() + 1)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, when_stopped=st.sampled_from(["stops", "raises", "returns"]))
    def shut_down(self, pick: int, when_stopped: str) -> None:
        acting, key = self._bodies()[pick % len(self._bodies())]
        acting.bodies[key].when_stopped = when_stopped
        at = self.workers.index(acting)
        self.end_worker(pick=at, dies=False, fault=None)

    @precondition(lambda self: self._bodies())
    @rule(pick=PICK, fault=FAULTS)
    def cancel_attempt(self, pick: int, fault: Fault | None) -> None:
        acting, key = self._bodies()[pick % len(self._bodies())]
        returns = acting.bodies[key].when_stopped == "returns"
        ends = {key: frozenset({"succeeded" if returns else "raised"})}
        fuse.reset(fault)
        acting.cancel(key)
        self._after_worker(acting, doing(ends=ends), fault, must=ends)

    def _after_worker(
        self,
        acting: Worker,
        what: Doing,
        fault: Fault | None,
        *,
        must: Mapping[Key, frozenset[str]] | None = None,
        fails: Iterable[Key] = (),
        ends: bool = False,
    ) -> None:
        """Let a process go on, and judge what it has done.

        Attempts that write may raise what the database does.
        """
        before, began, held = self.now, set(acting.bodies), set(acting.held)
        returns = {k for k, b in acting.bodies.items() if b.when_stopped == "returns"}
        if acting not in self.workers:
            self.workers.append(acting)
        self.known_to[acting] = {key[0] for key in acting.held}

        acting.settle()
        is_over = ends or fuse.is_dead or fuse.is_shut_down
        if is_over and not fuse.is_dead and acting.bodies:
            # What was being claimed at the signal.
            acting.give_back()
            acting.settle()
        fuse.reset()
        if is_over:
            if not acting.is_over:
                self.complain("a process has not ended")
            acting.leave()
            self.workers.remove(acting)

        stops = fault is not None and fault.kind is Kind.CANCELLED
        possible = {key: set(what.ends.get(key, ())) for key in acting.held}
        for key, hows in possible.items() if stops or ends else ():
            hows.update(_AT_A_SIGNAL, {"succeeded"} if key in returns else ())
        for key in fails if fault is not None and fault.kind is Kind.ERROR else ():
            possible[key].add("raised")

        allowed = {key: frozenset(hows) for key, hows in possible.items()}
        self.look(what._replace(stops=stops, ends=allowed))
        self.demand_of(acting, before, began | (acting.held - held))
        if fault is None and must:
            self._demand_ends(before, must)

    def _demand_ends(
        self, before: Snapshot, must: Mapping[Key, frozenset[str]]
    ) -> None:
        for (task_id, attempt), hows in must.items():
            old, new = before.rows.get(task_id), self.now.rows.get(task_id)
            if not hows or old is None or new is None:
                continue
            if (old.status, old.attempts) == ("running", attempt) and state(
                new
            ) not in {ended(state(old), how, old.max_attempts) for how in hows}:
                self.complain(f"not {hows}\n  before {old}\n  after  {new}")

    # --- Operators, and time.

    @precondition(lambda self: self.now.rows)
    @rule(
        order=st.sampled_from(["cancel", "replay", "replay", "prune", "take over"]),
        pick=PICK,
        count=st.sampled_from([1, 2]),
        fault=FAULTS,
    )
    def operate(self, order: str, pick: int, count: int, fault: Fault | None) -> None:
        rows = self.now.rows.values()
        meant = [row.id for row in rows if row.status in _MEANT.get(order, ())]
        task_id = (meant or list(self.now.rows))[pick % len(meant or rows)]
        if order == "cancel":
            act(ledger.cancel(task_id), fault)
        elif order == "replay":
            act(ledger.replay(task_id), fault)
        elif order == "take over":
            broker.reasons += len(self.now.rows)
            act(worker.take_over(), fault)
        else:
            if count > 1 or any(row.status == "failed" for row in rows):
                self._pass_time(RETENTION.total_seconds() + 1)
            act(retention.prune(count), fault)
        self.look(doing(order, task=task_id))

    @precondition(lambda self: self.now.rows)
    @rule(seconds=TIMES)
    def pass_time(self, seconds: float) -> None:
        self._pass_time(seconds)

    def _pass_time(self, seconds: float) -> None:
        clock.ahead += seconds
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
        processes: list[Process] = [*self.workers, *self.relays]
        for process in processes:
            process.die()

        fuse.reset()
        for session in self.sessions:
            loop.run_until_complete(session.close())
        self.workers, self.relays = [], []

        if self.is_sound:
            self._drain()

    def _drain(self) -> None:
        relay.BATCH = 100
        if self.ends_without_broker:
            act(worker.take_over(), None)
        elif self.broker_comes_back_empty:
            broker.waiting.clear()

        self.worker = Worker()
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
        self.worker.leave()
        self.demand_truth()

    def _unfinished(self) -> list[Row]:
        return [row for row in self.now.rows.values() if not row.has_ended]

    def _run_everything(self, seconds: float, *, compares: bool) -> list[Row]:
        if not self._unfinished():
            return []

        self._pass_time(seconds)
        # Counted while there were faults; here only the end counts.
        broker.reasons += 1000
        if self.ends_without_broker:
            self.worker.start_due()
            while self._end_all():
                self.worker.start_due()
        else:
            if compares:
                act(relay.find_lost(), None)
            act(relay.publish_due(self.due_tasks[0]), None)
            while broker.waiting:
                self.worker.execute(broker.waiting.pop(0).id)
                self._end_all()

        self.now = loop.run_until_complete(storage.look())
        return self._unfinished()

    def _end_all(self) -> bool:
        """Let the worker end what it has started; return whether that was anything."""
        self.worker.settle()
        bodies = list(self.worker.bodies)
        for key in bodies:
            # SQLite has one connection, which the first takes until it has ended.
            self.worker.order(key, Deed(effect=True, end="returns"))
            self.worker.settle()
        if not self.worker.is_over:
            self.complain("a worker has not ended")
        return bool(bodies)


def _ends(deed: Deed) -> frozenset[str]:
    """Return how an attempt ends that is told this."""
    if deed.end is None:
        return frozenset()
    return frozenset({"succeeded" if deed.end == "returns" else "raised"})
