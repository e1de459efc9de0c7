"""A service that changes its engine under load loses no task and runs none twice."""

import contextlib
import http.client
import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generator.services import eventually
from generator.variants import VARIANTS, Variant
from tests.living import promise
from tests.releases import Template, commit, conflicts, switch_to
from tests.serving import Deployment, check, deployments, install, servers

PARCELS = 300
BURST = 150
"""So many come at once, so that some wait; the others come during the switch."""

LONG = 10
"""Each so manieth parcel takes longer than the old workers are given to end."""

SOME = [
    ("celery-redis", "dramatiq-rabbitmq"),
    ("dramatiq-redis", "arq-redis"),
    ("arq-redis", "celery-rabbitmq"),
    ("celery-rabbitmq", "dramatiq-rabbitmq"),
    ("dramatiq-rabbitmq", "celery-rabbitmq"),
    ("postgresql", "celery-redis"),
    ("celery-redis", "postgresql"),
    ("dramatiq-rabbitmq", "postgresql"),
]
"""Each engine is left and taken, and so is each broker."""

GRACE_SECONDS = 4.0
KINDS = ("queued", "retrying", "running", "succeeded")


class Customers:
    """Hand parcels in until each one was accepted, whichever release answers."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.accepted: set[int] = set()
        self._closed = threading.Event()
        self._numbers = itertools.count()
        self._threads = [
            threading.Thread(target=self._come, daemon=True) for _ in range(4)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def served(self) -> bool:
        """Whether all have been."""
        return len(self.accepted) == PARCELS

    def close(self) -> None:
        """Let no more of them come."""
        self._closed.set()

    def _come(self) -> None:
        while (number := next(self._numbers)) < PARCELS:
            if number >= BURST:
                self._closed.wait(0.25)  # they come one after the other
            while number not in self.accepted and not self._closed.is_set():
                try:
                    self.deployment.request("/parcels", _parcel(number))
                    self.accepted.add(number)
                except (OSError, http.client.HTTPException):
                    self._closed.wait(0.05)  # somebody else will answer


def _parcel(number: int) -> dict[str, Any]:
    seconds = 1.0 if number % 2 else 0.0
    return {
        "number": number,
        "street": "Market Street",
        "vain": number % 3,
        "seconds": 8.0 if number % LONG == 1 else seconds,
    }


def _kinds(tasks: list[dict[str, Any]]) -> Counter[str]:
    """Count the tasks by what they wait for; one that was tried waits for a retry."""
    return Counter(
        "retrying"
        if task["status"] == "queued" and task["attempts"]
        else task["status"]
        for task in tasks
    )


def make_releases(
    source: Variant, target: Variant, template: Template, folder: Path
) -> tuple[Path, Path]:
    """Return a project that delivers parcels, and the same with another engine."""
    old = template.generate(folder / "old", source)
    promise(old)
    commit(old, "Deliver parcels")
    new = shutil.copytree(old, folder / "new")
    switch_to(new, source, target)
    assert conflicts(new) == []

    install(old)
    install(new)
    return old, new


@contextlib.contextmanager
def serving(
    old: Path, new: Path, source: Variant, target: Variant
) -> Iterator[tuple[Deployment, Deployment]]:
    """Run the servers and the old release, and migrate for the new one."""
    with contextlib.ExitStack() as stack:
        kinds = ("postgresql", "broker") if source.has_broker else ("postgresql",)
        settings = {
            **stack.enter_context(servers(old, *kinds)),
            "OPERATOR_TOKEN": "secret-of-operators",
            "LEASE_SECONDS": "3",
            "CELERY_WORKER_CONCURRENCY": "8",
        }
        check(old, "alembic", "upgrade", "heads", **settings)
        before = Deployment(old, settings)
        if target.has_broker and _broker(source) != _broker(target):
            settings |= stack.enter_context(servers(new, "broker"))
        after = Deployment(new, settings)
        stack.enter_context(deployments(before, after))

        before.start(*before.kinds)
        before.wait_until_ready()
        check(new, "alembic", "upgrade", "heads", **settings)
        yield before, after


def _broker(variant: Variant) -> str | None:
    return variant.answers.get("broker")


def switch_under_load(
    before: Deployment, after: Deployment, customers: Customers
) -> Counter[str]:
    """Take the further steps of docs/delivery.md; return what the old release left."""
    eventually(
        lambda: all(_kinds(before.tasks())[kind] > 4 for kind in KINDS),
        within=120,
        what="tasks of every kind",
    )
    if "relay" in before.kinds:
        assert before.processes["relay"].stop(within=60)
    before.processes["worker"].stop(within=GRACE_SECONDS)
    left = _kinds(before.tasks())

    after.start(*after.kinds)
    after.wait_until_ready()
    customers.deployment = after
    assert before.processes["api"].stop(within=120)
    return left


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take some pairs of engines, or with `--full` all of them."""
    names = [variant.name for variant in VARIANTS.values() if variant.must_happen]
    is_full = metafunc.config.getoption("full")
    pairs = itertools.permutations(names, 2) if is_full else SOME
    metafunc.parametrize(("source", "target"), list(pairs))


def test_every_task_succeeds_once(
    source: str, target: str, template: Template, tmp_path: Path
) -> None:
    variants = VARIANTS[source], VARIANTS[target]
    releases = make_releases(*variants, template, tmp_path)

    with (
        serving(*releases, *variants) as (before, after),
        contextlib.closing(Customers(before)) as customers,
    ):
        left = switch_under_load(before, after, customers)
        eventually(lambda: customers.served, within=300, what="all are accepted")
        eventually(
            lambda: _kinds(after.tasks()) == {"succeeded": PARCELS},
            within=300,
            what="all parcels are delivered",
        )

        assert after.request("/parcels/totals") == dict.fromkeys(
            ("accepted", "delivered", "deliveries"), PARCELS
        )
        attempts = {
            task["arguments"]["number"]: task["attempts"] for task in after.tasks()
        }
        assert all(attempts[number] > number % 3 for number in range(PARCELS))
        assert min(left[kind] for kind in KINDS) > 0, left
        assert all(process.runs for process in after.processes.values())
