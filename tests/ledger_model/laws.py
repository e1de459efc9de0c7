"""Judge each step: who may change what, and what must be true afterwards."""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine

from app.settings import settings

from .actors import Actor, loop, stranger
from .faults import fuse
from .stage import broker, overheard, storage
from .storage import Row, Snapshot

LEASE = timedelta(seconds=settings.lease_seconds)
RETENTION = timedelta(days=settings.retention_days)


class Broken(AssertionError):  # noqa: N818
    """The ledger has not kept its word."""


class Doing(NamedTuple):
    """Who acts in a step, as far as it decides what may change."""

    what: frozenset[str]
    task: UUID | None = None
    attempt: int = 0
    granted: int = 0


def doing(*what: str, **details: Any) -> Doing:
    """Say what a step does."""
    return Doing(frozenset(what), **details)


class Judge(RuleBasedStateMachine):
    """Compares what is committed before and after each step of the machine."""

    def __init__(self) -> None:
        super().__init__()
        loop.run_until_complete(storage.clear())
        broker.__init__()  # type: ignore[misc]
        overheard.errors.clear()
        fuse.reset()

        self.now: Snapshot = loop.run_until_complete(storage.look())
        self.pruned: set[UUID] = set()
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

    def demand_no_failure(self, actor: Actor) -> None:
        """Complain about an exception that the model has not brought about."""
        if error := actor.failure():
            self.complain(f"a process failed: {error!r}")

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

    if row.attempts > row.max_attempts:
        return "more attempts than there may be"
    return None


def _complaint(  # noqa: PLR0911 - one for each rule
    old: Row | None, new: Row | None, act: Doing, at: Snapshot
) -> str | None:
    """Say what is wrong with a change."""
    if old is None:
        is_fresh = new is not None and (new.status, new.attempts) == ("queued", 0)
        return None if is_fresh and "record" in act.what else "a task from nowhere"

    if new is None:
        is_old = old.finished_at is not None and old.finished_at <= at.now - RETENTION
        is_prunable = is_old and old.status in {"succeeded", "cancelled"}
        return None if is_prunable and "prune" in act.what else "a task was deleted"

    if new.status != old.status or new.attempts != old.attempts:
        return None if _may_move(old, new, act, at) else "a forbidden step"

    if new.max_attempts != old.max_attempts:
        return "other attempts without a replay"
    if old.has_ended:
        return "a finished task was changed"
    if old.status == "running":
        is_renewed = "beat" in act.what and _holds(act, old)
        return None if is_renewed else "a running task was changed by another"
    return _complaint_about_waiting(old, new, act, at)


def _complaint_about_waiting(
    old: Row, new: Row, act: Doing, at: Snapshot
) -> str | None:
    if "find" in act.what:
        is_old = old.published_at is not None and old.published_at <= at.now - LEASE
        is_due_again = new.published_at == old.published_at and is_due(new, at)
        return None if is_old and is_due_again else "wrongly presumed lost"

    if "publish" not in act.what:
        return "a waiting task was changed"

    is_given_back = new.published_at is None and is_due(new, at)
    is_taken = is_due(old, at) and new.published_at is not None
    return None if is_given_back or is_taken else "published too early"


def _holds(act: Doing, row: Row) -> bool:
    return (act.task, act.attempt, "running") == (row.id, row.attempts, row.status)


def _may_move(  # noqa: PLR0911 - one for each pair of states
    old: Row, new: Row, act: Doing, at: Snapshot
) -> bool:
    """Whether who acts may bring the task from one state to the other."""
    is_used_up = old.attempts >= old.max_attempts
    grants = {
        "claim": new.max_attempts == old.max_attempts
        and new.attempts == old.attempts + 1,
        "replay": new.max_attempts == old.attempts + act.granted
        and new.attempts == old.attempts,
    }

    stays = (new.attempts, new.max_attempts) == (old.attempts, old.max_attempts)
    is_let_go = (_holds(act, old) and "end" in act.what) or (
        not act.what.isdisjoint({"publish", "take"}) and is_due(old, at)
    )
    is_subject = act.task == old.id
    may_start = old.published_at is not None or is_due(old, at)
    is_claimed = "claim" in act.what and is_subject and may_start and grants["claim"]
    is_taken = "take" in act.what and is_due(old, at) and grants["claim"]

    match old.status, new.status:
        case "queued", "running":
            return is_claimed or is_taken
        case "running", "running":
            return is_taken and not is_used_up
        case "queued", "queued" | "failed":  # Claimed, and then nobody knows this task.
            is_last = new.attempts >= new.max_attempts
            return (
                is_claimed
                and old.name == stranger.name
                and is_last == (new.status == "failed")
            )
        case "running", "succeeded":
            return stays and _holds(act, old) and "end" in act.what
        case "running", "failed":
            return stays and is_let_go and is_used_up
        case "running", "queued":
            return stays and is_let_go and not is_used_up and "take" not in act.what
        case (("queued" | "running"), "cancelled"):
            return stays and "cancel" in act.what and is_subject
        case (("failed" | "cancelled"), "queued"):
            return "replay" in act.what and is_subject and grants["replay"]

    return False
