"""The faults by name: what each does in one line, and to which projects it can be done."""

from collections.abc import Sequence
from dataclasses import dataclass

from generator.refusal import Refusal

POOLED = frozenset({"celery", "dramatiq"})


@dataclass(frozen=True)
class Fault:
    """Something that is done to a running service; its code is in `inside/faults.py`."""

    name: str
    title: str
    is_embedded: bool = False
    """Whether it can also be done to an API that runs its tasks itself, on SQLite."""
    engines: frozenset[str] = POOLED | {"arq"}
    needs_ledger: bool = False
    """Whether it cannot be done to an engine on its own."""

    def applies(
        self, engine: str, database: str, *, is_reference: bool = False
    ) -> bool:
        """Whether it can be done to this engine, if any, with a ledger in this database."""
        if is_reference and (self.needs_ledger or database == "sqlite"):
            return False
        if database == "sqlite" or not engine:
            return self.is_embedded
        return engine in self.engines

    @property
    def where(self) -> str:
        """Where it applies, in words."""
        places = [
            "every engine" if "arq" in self.engines else ", ".join(sorted(self.engines))
        ]
        if self.is_embedded:
            places.append("SQLite")
        if not self.needs_ledger:
            places.append("the references")
        return "; ".join(places)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("worker-killed", "SIGKILL the worker in the middle of tasks"),
        Fault(
            "worker-killed-busy", "SIGKILL the worker again and again, at a full queue"
        ),
        Fault(
            "child-killed", "SIGKILL one process of the worker's pool", engines=POOLED
        ),
        Fault(
            "worker-terminated",
            "SIGTERM the worker: tasks shorter and longer than its grace",
        ),
        Fault(
            "worker-frozen",
            "SIGSTOP the worker past its lease, then SIGCONT (a zombie)",
            needs_ledger=True,
        ),
        Fault(
            "broker-killed",
            "SIGKILL the broker and start it, busy with retries, and idle",
        ),
        Fault("broker-emptied", "the broker comes back without its data"),
        Fault(
            "broker-silent",
            "the broker refuses connections, then hangs: open and silent",
        ),
        Fault("api-killed", "SIGKILL the API straight after a 2xx", is_embedded=True),
        Fault(
            "api-killed-at-commit",
            "SIGKILL the API or the relay before a publish",
            True,
        ),
        Fault(
            "database-restarted",
            "restart PostgreSQL, then cut all its connections",
            needs_ledger=True,
        ),
        Fault(
            "relay-killed", "SIGKILL the relay, then run two of them", needs_ledger=True
        ),
        Fault(
            "messages-repeated",
            "every message three times, and again long after",
            is_embedded=True,
            needs_ledger=True,
        ),
        Fault(
            "poison",
            "tasks that kill their process each time, among good ones",
            is_embedded=True,
            needs_ledger=True,
        ),
        Fault(
            "strangers",
            "garbage, pickles, unknown names and forged ids in the queue",
            needs_ledger=True,
        ),
        Fault(
            "clocks-apart",
            "hosts whose clocks are one and two hours apart",
            needs_ledger=True,
        ),
        Fault("broker-full", "the broker has no space left"),
        Fault(
            "everything",
            "all of it at random, for a chosen time",
            is_embedded=True,
            needs_ledger=True,
        ),
    )
}


def find_faults(names: Sequence[str]) -> list[Fault]:
    """Return the named faults in the order of the list, or all when none is named.

    Raises:
        Refusal: A name is unknown.
    """
    if unknown := [name for name in names if name not in FAULTS]:
        raise Refusal(f"unknown fault {unknown[0]}: the faults are {', '.join(FAULTS)}")
    return [fault for fault in FAULTS.values() if not names or fault.name in names]
