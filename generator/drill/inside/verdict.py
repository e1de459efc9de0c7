"""Count what became of every task, from the ledger and from what the tasks wrote."""

import json
import statistics
from itertools import pairwise
from typing import Any
from uuid import UUID

from .books import started
from .faults import Fault
from .load import Request
from .run import Run

SOON_SECONDS = 5.0
"""What an interrupted task may wait beyond the lease."""

SLOWER = 1.5
NOISE_SECONDS = 0.02
"""What the machine's own noise may add to a response time."""

MEASURABLE = 100
"""Of fewer requests, the p99 is no more than the slowest."""


class _Tasks:
    """What became of a run's tasks, as the ledger says and as their effects show."""

    def __init__(self, run: Run) -> None:
        rows = run.rows(
            "SELECT id, name, status, arguments FROM tasks WHERE name LIKE 'drill%'"
        )
        self._rows = {UUID(str(row[0])): row[1:] for row in rows}
        self.recorded = self._rows.keys()
        self.answered = set(run.traffic.answered)
        self.effects = _effects(run)

    def with_status(self, *statuses: str) -> set[UUID]:
        """Return the tasks that have one of these."""
        return {task for task, row in self._rows.items() if row[1] in statuses}

    @property
    def poisoned(self) -> set[UUID]:
        """Those that kill whoever runs them, and should fail."""
        return {task for task, row in self._rows.items() if row[0] == "drill_poison"}

    @property
    def plain(self) -> set[UUID]:
        """Those that were not told to fail."""
        rows = self._rows.items()
        return {task for task, row in rows if not json.loads(row[2])["failures"]}

    @property
    def lost(self) -> set[UUID]:
        """Those that were answered and not recorded, or recorded and never ended."""
        return (self.answered - self.recorded) | self.with_status("queued", "running")

    @property
    def effects_missing(self) -> int:
        """How many succeeded without an effect."""
        return sum(task not in self.effects for task in self.with_status("succeeded"))

    @property
    def effects_doubled(self) -> int:
        """How many had several effects, or one although they have not succeeded."""
        doubled = sum(number > 1 for number in self.effects.values())
        return doubled + len(self.effects.keys() - self.with_status("succeeded"))


def judge(run: Run, fault: Fault) -> dict[str, Any]:
    """Return the figures of a run, after noting every promise that it broke."""
    tasks, starts = _Tasks(run), started(run.books)
    plain = {task: starts[task] for task in starts if task in tasks.plain}
    back = _seconds_until_again(run.moments, plain)
    phases = _phases(run.traffic.requests, run.windows)

    _expect_all_kept(run, tasks)
    _expect_back_in_time(run, back, fault.leases)
    _expect_served(run, phases, fault)

    return {
        "broken": run.broken,
        "notes": run.notes,
        "answered": len(tasks.answered),
        "recorded": len(tasks.recorded),
        "succeeded": len(tasks.with_status("succeeded")),
        "failed": len(tasks.with_status("failed")),
        "poison": len(tasks.poisoned),
        "cancelled": len(tasks.with_status("cancelled")),
        "lost": len(tasks.lost),
        "started_again": sum(len(each) > 1 for each in starts.values()),
        "effects_missing": tasks.effects_missing,
        "effects_doubled": tasks.effects_doubled,
        "again": _spread([seconds for _, seconds in back]),
        "errors": _errors(phases),
        "p99": _p99s(phases),
    }


def _expect_all_kept(run: Run, tasks: _Tasks) -> None:
    """Expect that each task is recorded, ends as it should, and has its effect once."""
    failed, poisoned = tasks.with_status("failed"), tasks.poisoned
    missing, doubled = tasks.effects_missing, tasks.effects_doubled

    run.expect(not tasks.lost, f"{len(tasks.lost)} tasks lost")
    run.expect(
        _requested(run) == tasks.recorded,
        "a request and its task were not recorded together",
    )

    run.expect(not failed - poisoned, f"{len(failed - poisoned)} good tasks failed")
    run.expect(
        poisoned <= failed, f"{len(poisoned - failed)} poisonous tasks have not failed"
    )

    run.expect(not missing, f"{missing} database effects missing")
    run.expect(not doubled, f"{doubled} database effects doubled or stray")


def _expect_back_in_time(run: Run, back: list[tuple[UUID, float]], leases: int) -> None:
    """Expect that interrupted tasks ran again within so many leases, and 5 s."""
    if not leases:
        return

    within = leases * run.order.lease + SOON_SECONDS
    late = [task for task, seconds in back if seconds > within]
    run.expect(not late, f"{len(late)} tasks ran again later than {within:g} s")
    if late:
        starts = started(run.books)
        run.notes += [f"{task}: {starts[task]}" for task in late]
        run.notes.append(f"moments: {run.moments}")

    run.expect(back, "the fault interrupted no task")


def _expect_served(run: Run, phases: dict[str, list[Request]], fault: Fault) -> None:
    """Expect no errors and no slower requests, where the fault leaves the API alone."""
    errors = sum(_errors(phases).values())
    run.expect(fault.api_may_fail or not errors, f"{errors} API errors")

    p99 = _p99s(phases)
    before, during = p99["before"], p99["during"]
    enough = all(len(phases[phase]) >= MEASURABLE for phase in ("before", "during"))
    if fault.is_measured and enough and before and during:
        limit = SLOWER * before + NOISE_SECONDS
        run.expect(during <= limit, f"p99 {during:.3f} s: above {limit:.3f} s")


def count(run: Run, left: int) -> dict[str, Any]:
    """Return the figures of a reference, which is not judged.

    `left` is how many messages its broker still has.

    A task is lost if its request was answered with 2xx and it has had no effect. An
    order is stranded if its row was committed, the request got no 2xx, and nothing has
    had its effect.
    """
    requested, answered = _requested(run), set(run.traffic.answered)
    starts, effects = started(run.books), _effects(run)
    plain = starts.keys() - run.traffic.failing
    back = _seconds_until_again(run.moments, {task: starts[task] for task in plain})
    phases = _phases(run.traffic.requests, run.windows)

    return {
        "broken": run.broken,
        "notes": run.notes,
        "answered": len(answered),
        "recorded": len(requested),
        "succeeded": len(effects),
        "lost": len(answered - effects.keys()),
        "left_in_broker": left,
        "stranded": len(requested - answered - effects.keys()),
        "started_again": sum(len(each) > 1 for each in starts.values()),
        "effects_missing": len(requested - effects.keys()),
        "effects_doubled": sum(number > 1 for number in effects.values()),
        "again": _spread([seconds for _, seconds in back]),
        "errors": _errors(phases),
        "p99": _p99s(phases),
    }


def _effects(run: Run) -> dict[UUID, int]:
    effects: dict[UUID, int] = {}
    for row in run.rows("SELECT task_id FROM drill_effects"):
        effects[UUID(row[0])] = effects.get(UUID(row[0]), 0) + 1
    return effects


def _requested(run: Run) -> set[UUID]:
    return {UUID(row[0]) for row in run.rows("SELECT task_id FROM drill_requests")}


def _seconds_until_again(
    moments: list[float], starts: dict[UUID, list[tuple[int, int, float, float]]]
) -> list[tuple[UUID, float]]:
    """Return the seconds from each fault to the next start of what it interrupted."""
    return [
        (task, second[2] - moment)
        for task, each in starts.items()
        for first, second in pairwise(each)
        for moment in [moment for moment in moments if first[2] < moment < second[2]][
            :1
        ]
    ]


def _phases(
    requests: list[Request], windows: list[tuple[float, float]]
) -> dict[str, list[Request]]:
    first = min((begun for begun, _ in windows), default=float("inf"))
    phases: dict[str, list[Request]] = {"before": [], "during": [], "after": []}

    for request in requests:
        if request.at < first:
            phases["before"].append(request)
        elif any(begun <= request.at <= ended for begun, ended in windows):
            phases["during"].append(request)
        else:
            phases["after"].append(request)
    return phases


def _errors(phases: dict[str, list[Request]]) -> dict[str, int]:
    return {phase: sum(not each.ok for each in sent) for phase, sent in phases.items()}


def _p99s(phases: dict[str, list[Request]]) -> dict[str, float | None]:
    return {
        phase: _p99([each for each in sent if each.ok])
        for phase, sent in phases.items()
    }


def _spread(seconds: list[float]) -> dict[str, float | None]:
    median = statistics.median(seconds) if seconds else None
    return {"tasks": len(seconds), "median": median, "max": max(seconds, default=None)}


def _p99(requests: list[Request]) -> float | None:
    seconds = sorted(each.seconds for each in requests)
    return seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))] if seconds else None
