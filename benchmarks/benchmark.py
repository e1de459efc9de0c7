"""Describe a benchmark: what it measures, what it must show, and how it is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.figures import Result, Row
from benchmarks.lab import Lab
from benchmarks.picture import Panel


@dataclass(frozen=True)
class Requirement:
    """What we hold ourselves to, in which rows, and how many of them must reach it."""

    text: str
    concerns: Callable[[Row], bool] = lambda _: True
    at_least: int | None = None
    """How many rows must reach the goal; all of them, if none."""
    limit: Callable[[Sequence[Row]], str] = lambda _: ""
    """What was measured that explains why the goal is out of reach."""

    def judge(self, rows: Sequence[Row]) -> "Verdict | None":
        """Return whether the rows reach the goal; none if no row of them has one."""
        judged = [row for row in rows if row.holds is not None and self.concerns(row)]
        if not judged:
            return None

        reached = sum(bool(row.holds) for row in judged)
        is_reached = reached >= (self.at_least or len(judged))
        values = [row.judged.median for row in judged if row.judged]

        return Verdict(
            self.text,
            is_reached,
            min(values),
            max(values),
            f"{reached} of {len(judged)}",
            "" if is_reached else self.limit(rows),
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a requirement is met, and by how much."""

    text: str
    is_reached: bool
    lowest: float
    highest: float
    share: str
    """How many of the rows reach it."""
    limit: str


@dataclass(frozen=True)
class Highlight:
    """A row of the first page: what costs something, in words, and how much."""

    text: str
    row: Row


@dataclass(frozen=True)
class Benchmark:
    """All that the command and the pages need to know of a benchmark."""

    name: str
    title: str
    introduction: str
    run: Callable[[Lab], Result]
    requirements: Sequence[Requirement]
    picture: Callable[[Result], Sequence[Panel]]
    """What is drawn of a result, one panel below the other."""
    needs_broker: bool = False
    """Whether it measures only variants with a broker."""
    highlights: Callable[[Result], Sequence[Highlight]] = lambda _: ()
    """What the first page says of a result; nothing, if users do not pay for it."""
