"""Say what is drilled and how: what the command asks of the part inside a copy.

It is plain Python, because it is imported on both sides.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to drill; these are kept with each result."""

    database: str
    """`postgresql` or `sqlite`."""

    tasks: int | None
    """Tasks per run, if not as many as the fault needs."""

    rate: float
    """Requests a second."""

    seed: int
    duration: float
    """Seconds that the fault `everything` lasts."""

    outage: float
    """Seconds that a broker refuses, and hangs."""

    lease: float
    """LEASE_SECONDS of the service."""


@dataclass(frozen=True, kw_only=True)
class Order(Settings):
    """What to drill, and how."""

    engine: str
    broker: str
    faults: list[str]

    reference: str | None = None
    """The setting of an engine that is drilled without a ledger."""

    patience: float = 0.0
    """Seconds without a change after which a reference's broker is given up."""
