"""Judge each step: who may change what, and what must be true afterwards."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine

from app.settings import settings

from .actors import Key, Process, Seen, loop, patient, stranger
from .faults import fuse
from .stage import broker, overheard, storage
from .storage import Row, Snapshot

LEASE = timedelta(seconds=settings.lease_seconds)
RETENTION = timedelta(days=settings.retention_days)
# The numbers that are promised, not those of the code.
MAX_INTERRUPTIONS = 5
SUSPECT_INTERRUPTIONS = 2
SUSPECT_SECONDS = 5.0
FIRST_BACK_OFF = {patient.name: 20.0, stranger.name: 10.0}
DEFAULT_BACK_OFF = 2.0


class Broken(AssertionError):  # noqa: N818
    """The ledger has not kept its word."""


class Doing(NamedTuple):
    """Who acts in a step, as far as it decides what may change."""

    what: frozenset[str]
    task: UUID | None = None
    """Whom an operator means, or what is claimed; what is claimed may be any."""
    ends: Mapping[Key, frozenset[str]] = {}
    """How attempts that the process holds may end."""
    stops: bool = False
    """Whether a signal may end the process meanwhile."""


def doing(*what: str, **details: Any) -> Doing:
    """Say what a step does."""
    return Doing(frozenset(what), **details)


class State(NamedTuple):
    """Where a task stands, without its moments."""

    status: str
    attempts: int
    failures: int
    interruptions: int
    is_excused: bool = False
    """Whether the worker that runs it was told to end."""


def state(row: Row) -> State:
    """Return where a task stands."""
    is_excused = row.status == "running" and row.shutdown_at is not None
    counts = (row.attempts, row.failures, row.interruptions)
    return State(row.status, *counts, is_excused)


def interrupted(old: State) -> State:
    """Return what becomes of a task when its worker is found to be gone."""
    if old.status != "running":
        return old
    if old.is_excused:
        return old._replace(status="queued", is_excused=False)
    again = old._replace(interruptions=old.interruptions + 1)
    is_last = again.interruptions >= MAX_INTERRUPTIONS
    return again._replace(status="failed" if is_last else "queued")


def claimed(old: State) -> State:
    """Return what becomes of a task that is started."""
    new = interrupted(old)
    if new.status == "failed":
        return new
    return new._replace(status="running", attempts=new.attempts + 1)


def ended(old: State, how: str, max_attempts: int) -> State:
    """Return what becomes of a task when its attempt ends."""
    if how == "announced":
        return old._replace(is_excused=True)
    old = old._replace(is_excused=False)
    if how == "raised":
        failures = old.failures + 1
        status = "failed" if failures >= max_attempts else "queued"
        return old._replace(status=status, failures=failures)
    return old._replace(status="succeeded" if how == "succeeded" else "queued")


class Judge(RuleBasedStateMachine):
    """Compares what is committed before and after each step of the machine."""

    examples = 0
    """How many there have been."""

    def __init__(self) -> None:
        super().__init__()
        Judge.examples += 1
        loop.run_until_complete(storage.clear())
        broker.__init__()  # type: ignore[misc]
        overheard.errors.clear()
        fuse.reset()

        self.now: Snapshot = loop.run_until_complete(storage.look())
        self.pruned: set[UUID] = set()
        self.claims: set[Key] = set()
        self.named: dict[UUID, str] = {}
        """What was recorded, by which name."""
        self.is_sound = True

    def look(self, act: Doing, *, is_racy: bool = False) -> None:
        """Compare what is committed now with what was before the step."""
        before, self.now = self.now, loop.run_until_complete(storage.look())

        for task_id in before.rows.keys() | self.now.rows.keys():
            old, new = before.rows.get(task_id), self.now.rows.get(task_id)
            if old == new:
                continue
            if complaint := _complaint(old, new, act, self.now):
                self.complain(
                    f"{complaint}\n  before {old}\n  after  {new}\n  in {act}"
                )
            if new is None:
                self.pruned.add(task_id)
            else:
                broker.reasons += _wants_a_message(old, new)
                is_presumed_lost = old is not None and "find" in act.what
                broker.reasons += is_racy and is_presumed_lost
        self.demand_truth()

    def demand_truth(self) -> None:
        """Complain about what may not be, whatever has happened."""
        for row in self.now.rows.values():
            if complaint := _flaw(row):
                self.complain(f"{complaint}: {row}")
            if self.named.get(row.id, row.name) != row.name:
                self.complain(f"recorded for another call: {row}")

        self._demand_what_was_written_beside()
        if broker.published > broker.reasons:
            self.complain(
                f"{broker.published} messages where {broker.reasons} have a reason"
            )
        if overheard.errors:
            self.complain(f"an unexpected error was logged: {overheard.errors!r}")

    def _demand_what_was_written_beside(self) -> None:
        writes = self.now.writes
        requests = [task_id for kind, task_id, _ in writes if kind == "request"]
        if sorted(requests) != sorted(self.now.rows.keys() | self.pruned):
            self.complain("a task and what was written beside it do not exist together")

        effects = sorted(
            (task_id, attempt)
            for kind, task_id, attempt in writes
            if kind == "effect" and task_id not in self.pruned
        )
        due = sorted(
            (row.id, row.attempts)
            for row in self.now.rows.values()
            if row.status == "succeeded" and row.result == '"effect"'
        )
        if effects != due:
            self.complain(f"effects: {effects} instead of {due}")

    def demand_of(self, process: Process, before: Snapshot, began: set[Key]) -> None:
        """Complain about what a process raised, was told or does."""
        for error in process.failures():
            self.complain(f"a process failed: {error!r}")

        for seen in process.seen:
            if complaint := self._lie(seen, before, began):
                self.complain(f"{complaint}: {seen}")
        process.seen.clear()

        suspects = [
            key
            for key, body in process.bodies.items()
            if body.context.interruptions >= SUSPECT_INTERRUPTIONS
        ]
        if len(suspects) > 1:
            self.complain(f"suspects run beside each other: {suspects}")
        if process.bodies and process.heart is None:
            self.complain("nothing will renew the leases of a process")

    def _lie(self, seen: Seen, before: Snapshot, began: set[Key]) -> str | None:
        if seen.name == "claim":
            return self._lie_of_claim(seen)
        if seen.name == "renew":
            renewed = {(each.id, each.attempt) for each in seen.asked}
            return None if renewed <= began else "what has ended is renewed"

        old = before.rows.get(seen.asked.id)
        new = self.now.rows.get(seen.asked.id)
        was_held = old is not None and old.attempts <= seen.asked.attempt
        is_mine = new is not None and new.attempts == seen.asked.attempt
        if seen.name == "succeed":
            is_recorded = (
                was_held and is_mine and new is not None and new.status == "succeeded"
            )
            is_true = bool(seen.answer) == is_recorded
        else:
            is_recorded = is_mine and new is not None and new.status == seen.answer
            is_true = is_recorded or seen.answer is None
        return None if is_true else "a process was told a lie"

    def _lie_of_claim(self, seen: Seen) -> str | None:
        for each in seen.answer:
            key = (each.id, each.attempt)
            row = self.now.rows.get(each.id)
            if key in self.claims:
                return "an attempt was handed out twice"
            self.claims.add(key)
            if row is None or row.attempts < each.attempt:
                return "an attempt was handed out that has not begun"
            if each.id not in seen.asked:
                return "an attempt was handed out that nobody asked for"
            if row.name != each.name or row.interruptions != each.interruptions:
                return "a claim was handed out that is another task's"
        return None

    def complain(self, complaint: str) -> None:
        """Fail: the ledger has not kept its word."""
        self.is_sound = False
        raise Broken(complaint)


def is_due(row: Row, at: Snapshot) -> bool:
    """Whether a message of it should be under way."""
    return row.wake_at is not None and row.wake_at <= at.now


def is_stuck(row: Row) -> bool:
    """Whether it waits for a message that an emptied broker has lost.

    Those of a known queue may wait for their own moment only.
    """
    return row.name != stranger.name and row.published_at is not None


def is_published(row: Row) -> bool:
    """Whether a broker was handed it."""
    return row.status == "queued" and row.published_at is not None


def _wants_a_message(old: Row | None, new: Row) -> bool:
    """Whether this is a beginning that a message must announce."""
    if old is None:
        return True

    return new.status == "queued" and (
        old.status != "queued" or old.attempts != new.attempts
    )


def _flaw(row: Row) -> str | None:
    """Say what is wrong with a row, whatever has happened."""
    if row.has_ended != (row.wake_at is None) or row.has_ended != (
        row.finished_at is not None
    ):
        return (
            "an unfinished task that nothing will wake,"
            " or a finished one that something will"
        )

    if row.failures > row.max_attempts or row.interruptions > MAX_INTERRUPTIONS:
        return "more attempts than there may be"
    if row.failures + row.interruptions > row.attempts:
        return "something was counted that has not begun"

    is_used_up = (
        row.failures == row.max_attempts or row.interruptions == MAX_INTERRUPTIONS
    )
    if is_used_up != (row.status == "failed"):
        return "a task that failed too early, or too late"
    return None


def _complaint(  # noqa: PLR0911 - one for each rule
    old: Row | None, new: Row | None, act: Doing, at: Snapshot
) -> str | None:
    """Say what is wrong with a change."""
    if old is None:
        is_fresh = new is not None and state(new) == State("queued", 0, 0, 0)
        return None if is_fresh and "record" in act.what else "a task from nowhere"

    if new is None:
        is_old = old.finished_at is not None and old.finished_at <= at.now - RETENTION
        is_prunable = is_old and old.status in {"succeeded", "cancelled"}
        return None if is_prunable and "prune" in act.what else "a task was deleted"

    if new.max_attempts != old.max_attempts:
        return "another limit of attempts"
    if state(new) != state(old):
        hows = [how for how, reached in _moves(old, act, at) if reached == state(new)]
        if not hows:
            return "a forbidden step"
        return _complaint_about_return(old, new, hows, at)

    if old.has_ended:
        return "a finished task was changed"
    if old.status == "running":
        hows = act.ends.get((old.id, old.attempts))
        is_renewed = "beat" in act.what and hows is not None
        is_announced_again = hows is not None and "announced" in hows
        if is_renewed or is_announced_again:
            return None
        return "a running task was changed by another"
    return _complaint_about_waiting(old, new, act, at)


def _moves(old: Row, act: Doing, at: Snapshot) -> Iterator[tuple[str, State]]:
    """Say where who acts may bring a task, and how."""
    now = state(old)
    is_subject = act.task in {None, old.id}
    may_start = is_due(old, at) or is_published(old)

    if "claim" in act.what and is_subject and may_start:
        yield "claimed", claimed(now)
        if claimed(now).status == "running":
            yield from _ends_at_once(old, claimed(now), act)
    if "publish" in act.what and is_due(old, at):
        yield "published", interrupted(now)
    if old.status == "running":
        for how in act.ends.get((old.id, old.attempts), frozenset()):
            yield how, ended(now, how, old.max_attempts)
    if "cancel" in act.what and is_subject and not old.has_ended:
        yield "cancelled", now._replace(status="cancelled", is_excused=False)
    if "replay" in act.what and is_subject and old.status in {"failed", "cancelled"}:
        yield "replayed", State("queued", old.attempts, 0, 0)


def _ends_at_once(old: Row, new: State, act: Doing) -> Iterator[tuple[str, State]]:
    """Say what may become of an attempt in the step in which it has begun."""
    if old.name == stranger.name:
        yield "raised", ended(new, "raised", old.max_attempts)
    if new.interruptions >= SUSPECT_INTERRUPTIONS:
        yield "put off", ended(new, "put off", old.max_attempts)
    if act.stops:
        yield "given back", ended(new, "given back", old.max_attempts)


def _complaint_about_return(
    old: Row, new: Row, hows: list[str], at: Snapshot
) -> str | None:
    """Say what is wrong with a task that waits again."""
    if new.status != "queued" or new.wake_at is None:
        return None
    if "published" in hows:
        return None  # Taken back perhaps, or on its way.
    if new.published_at is not None:
        return "a task waits for a message that nobody sends"

    seconds = (new.wake_at - at.now).total_seconds()
    if "raised" in hows:
        first = FIRST_BACK_OFF.get(old.name, DEFAULT_BACK_OFF)
        back_off = first * 2**old.failures
        is_right = back_off * 0.75 - 5 <= seconds <= back_off * 1.25
    else:
        is_right = seconds <= (SUSPECT_SECONDS if "put off" in hows else 0)
    return None if is_right else f"it waits for {seconds} s"


def _complaint_about_waiting(
    old: Row, new: Row, act: Doing, at: Snapshot
) -> str | None:
    if "find" in act.what:
        is_old = old.published_at is not None and old.published_at <= at.now - LEASE
        is_due_again = new.published_at == old.published_at and is_due(new, at)
        return None if is_old and is_due_again else "wrongly presumed lost"

    is_given_back = new.published_at is None and is_due(new, at)
    if "take over" in act.what:
        return None if is_published(old) and is_given_back else "wrongly taken over"
    if "publish" not in act.what:
        return "a waiting task was changed"

    is_taken = is_due(old, at) and new.published_at is not None
    return None if is_given_back or is_taken else "published too early"
