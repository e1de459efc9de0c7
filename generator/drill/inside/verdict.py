"""Counts what became of every task, from the ledger and from what the tasks wrote."""

import json
import statistics
from itertools import pairwise
from typing import Any
from uuid import UUID

from .books import started
from .load import Request
from .run import Run

SOON_SECONDS = 5.0
"""What an interrupted task may wait beyond the lease."""

SLOWER = 1.5
NOISE_SECONDS = 0.02
"""What the machine's own noise may add to a response time."""

MEASURABLE = 100
"""Of fewer requests, the p99 is no more than the slowest."""


def judge(
    run: Run, *, api_may_fail: bool, leases: int, is_measured: bool
) -> dict[str, Any]:
    """Return the figures of a run and every promise it broke.

    Interrupted tasks must run again within so many leases, if any, and five seconds.
    With `is_measured`, requests must not be slower during the fault than before it.
    """
    rows = run.rows(
        "SELECT id, name, status, arguments FROM tasks WHERE name LIKE 'drill%'"
    )
    recorded = {UUID(str(row[0])): row for row in rows}
    statuses = [row[2] for row in rows]
    answered = set(run.traffic.answered)
    starts = started(run.books)
    effects = _effects(run)
    requested = _requested(run)
    poisoned = {task for task, row in recorded.items() if row[1] == "drill_poison"}
    succeeded = {task for task, row in recorded.items() if row[2] == "succeeded"}
    failed = {task for task, row in recorded.items() if row[2] == "failed"}
    lost = (answered - recorded.keys()) | {
        task for task, row in recorded.items() if row[2] in {"queued", "running"}
    }
    missing = sum(effects.get(task, 0) == 0 for task in succeeded)
    doubled = sum(number > 1 for number in effects.values()) + len(
        effects.keys() - succeeded
    )
    plain = {
        task for task, row in recorded.items() if not json.loads(row[3])["failures"]
    }
    back = _seconds_until_again(
        run.moments, {t: starts[t] for t in starts if t in plain}
    )
    again = [seconds for _, seconds in back]
    phases = _phases(run.traffic.requests, run.windows)
    errors, p99 = _errors(phases), _p99s(phases)

    run.expect(not lost, f"{len(lost)} tasks lost")
    run.expect(
        requested == recorded.keys(),
        "a request and its task were not recorded together",
    )
    run.expect(not failed - poisoned, f"{len(failed - poisoned)} good tasks failed")
    run.expect(
        poisoned <= failed, f"{len(poisoned - failed)} poisonous tasks have not failed"
    )
    run.expect(not missing, f"{missing} database effects missing")
    run.expect(not doubled, f"{doubled} database effects doubled or stray")
    within = leases * run.order.lease + SOON_SECONDS
    late = sum(seconds > within for seconds in again)
    run.expect(not (leases and late), f"{late} tasks ran again later than {within:g} s")
    if leases and late:
        run.notes += [
            f"{task}: {starts[task]}" for task, seconds in back if seconds > within
        ]
        run.notes.append(f"moments: {run.moments}")
    run.expect(again or not leases, "the fault interrupted no task")
    run.expect(
        api_may_fail or not sum(errors.values()), f"{sum(errors.values())} API errors"
    )
    enough = all(len(phases[phase]) >= MEASURABLE for phase in ("before", "during"))
    if is_measured and enough and p99["before"] and p99["during"]:
        limit = SLOWER * p99["before"] + NOISE_SECONDS
        run.expect(
            p99["during"] <= limit, f"p99 {p99['during']:.3f} s: above {limit:.3f} s"
        )
    return {
        "broken": run.broken,
        "notes": run.notes,
        "answered": len(answered),
        "recorded": len(recorded),
        "succeeded": len(succeeded),
        "failed": len(failed),
        "poison": len(poisoned),
        "cancelled": statuses.count("cancelled"),
        "lost": len(lost),
        "started_again": sum(len(each) > 1 for each in starts.values()),
        "effects_missing": missing,
        "effects_doubled": doubled,
        "again": _spread(again),
        "errors": errors,
        "p99": p99,
    }


def count(run: Run, left: int) -> dict[str, Any]:
    """Return the figures of a reference, which is not judged; `left` is what its broker still has.

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
    """Return the seconds from each fault to the next start of a task that had begun before."""
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
