"""Describe each fault once: what is done, where it applies, what must hold.

The command reads this to plan, list and print; the part inside joins it with the
functions in `actions.py`. It is plain Python, because it is imported on both sides.
"""

from dataclasses import KW_ONLY, dataclass

POOLED = frozenset({"celery", "dramatiq"})
BROKERED = POOLED | {"arq"}
EVERY_ENGINE = BROKERED | {"postgresql"}
POOL_MODES = ("session", "transaction")


@dataclass(frozen=True)
class Fault:
    """Something that is done to a running service."""

    name: str
    title: str
    """What is done, in a few words."""

    _: KW_ONLY
    engines: frozenset[str] = EVERY_ENGINE
    is_embedded: bool = False
    """Whether it can also be done to an API that runs its tasks itself, on SQLite."""

    needs_ledger: bool = False
    """Whether it cannot be done to an engine on its own."""

    api_may_fail: bool = False
    """Whether the API may answer with errors meanwhile."""

    leases: int = 0
    """How many leases an interrupted task may wait until it runs again.

    0 where that depends on more than the lease.
    """

    is_measured: bool = False
    """Whether requests must not become slower."""

    through_proxy: bool = False
    """Whether the service reaches its broker through a proxy that can fail."""

    before_database: str = ""
    """What the service reaches PostgreSQL through: a proxy that can fail, or PgBouncer.

    PgBouncer's is the name of its pool mode.
    """

    @property
    def needs_pgbouncer(self) -> bool:
        """Whether PgBouncer has to be installed."""
        return self.before_database in POOL_MODES

    def applies(
        self, engine: str, database: str, *, is_reference: bool = False
    ) -> bool:
        """Whether it can be done to this engine, if any, with this kind of database."""
        if is_reference and (self.needs_ledger or database == "sqlite"):
            return False

        if database == "sqlite" or not engine:
            return self.is_embedded
        return engine in self.engines

    @property
    def where(self) -> str:
        """Where it applies, in words."""
        general = {EVERY_ENGINE: "every engine", BROKERED: "every engine with a broker"}
        places = [general.get(self.engines, ", ".join(sorted(self.engines)))]

        if self.is_embedded:
            places.append("SQLite")
        if not self.needs_ledger:
            places.append("the references")
        return "; ".join(places)


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("worker-killed", "SIGKILL the worker in the middle of tasks", leases=1),
        Fault(
            "worker-killed-busy", "SIGKILL the worker again and again, at a full queue"
        ),
        Fault(
            "child-killed",
            "SIGKILL one process of the worker's pool",
            engines=POOLED,
            leases=1,
        ),
        Fault(
            "worker-terminated",
            "SIGTERM the worker: tasks shorter and longer than its grace",
            leases=1,
        ),
        Fault(
            "worker-frozen",
            "SIGSTOP the worker past its lease, then SIGCONT (a zombie)",
            needs_ledger=True,
            leases=2,
        ),
        Fault(
            "broker-killed",
            "SIGKILL the broker and start it, busy with retries, and idle",
            engines=BROKERED,
            is_measured=True,
        ),
        Fault(
            "broker-emptied",
            "the broker comes back without its data",
            engines=BROKERED,
            is_measured=True,
        ),
        Fault(
            "broker-silent",
            "the broker refuses connections, then hangs: open and silent",
            engines=BROKERED,
            is_measured=True,
            through_proxy=True,
        ),
        Fault(
            "api-killed",
            "SIGKILL the API straight after a 2xx",
            is_embedded=True,
            api_may_fail=True,
        ),
        Fault(
            "api-killed-at-commit",
            "SIGKILL the API at a commit, or who takes tasks before they travel on",
            is_embedded=True,
            api_may_fail=True,
        ),
        Fault(
            "database-restarted",
            "restart PostgreSQL, then cut all its connections",
            needs_ledger=True,
            api_may_fail=True,
        ),
        Fault(
            "database-silent",
            "open connections to PostgreSQL fall silent, new ones work",
            needs_ledger=True,
            api_may_fail=True,
            before_database="proxy",
        ),
        Fault(
            "database-read-only",
            "PostgreSQL refuses to write, as a demoted primary does",
            needs_ledger=True,
            api_may_fail=True,
        ),
        *(
            Fault(
                f"pgbouncer-{mode}s",
                f"SIGKILL PgBouncer, in {mode} mode, and workers behind it",
                needs_ledger=True,
                api_may_fail=True,
                before_database=mode,
            )
            for mode in POOL_MODES
        ),
        Fault(
            "relay-killed",
            "SIGKILL the relay, then run two of them",
            engines=BROKERED,
            needs_ledger=True,
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
            api_may_fail=True,
        ),
        Fault(
            "strangers",
            "garbage, pickles, unknown names and forged ids in the queue",
            engines=BROKERED,
            needs_ledger=True,
        ),
        Fault(
            "clocks-apart",
            "hosts whose clocks are one and two hours apart",
            needs_ledger=True,
            leases=1,
        ),
        Fault(
            "broker-full",
            "the broker has no space left",
            engines=BROKERED,
            is_measured=True,
        ),
        Fault(
            "everything",
            "all of it at random, for a chosen time",
            is_embedded=True,
            needs_ledger=True,
            api_may_fail=True,
            through_proxy=True,
            before_database="proxy",
        ),
    )
}
"""The faults by name, in the order in which they are done."""
