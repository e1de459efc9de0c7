"""Hold what benchmarks yield: figures, references taken in turns, and their ratios."""

import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the lowest and the highest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return short(self.median)
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


@dataclass(frozen=True)
class Goal:
    """The bounds that we set: of the ratio, unless it is the figure itself."""

    at_most: float | None = None
    at_least: float | None = None
    of_figure: bool = False

    def __str__(self) -> str:
        bounds = {"≥": self.at_least, "≤": self.at_most}
        return " ".join(
            f"{sign} {short(b)}" for sign, b in bounds.items() if b is not None
        )

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


@dataclass
class Row:
    """One comparison; each figure was taken right before or after its reference."""

    what: str
    against: str
    unit: str
    figures: list[float] = field(default_factory=list)
    references: list[float] = field(default_factory=list)
    goal: Goal | None = None

    @property
    def figure(self) -> Spread:
        """What was measured."""
        return spread(self.figures)

    @property
    def reference(self) -> Spread | None:
        """What it is compared with."""
        return spread(self.references) if self.references else None

    @property
    def ratio(self) -> Spread | None:
        """The figure as a multiple of the reference, over the repetitions."""
        pairs = zip(self.figures, self.references, strict=False)
        quotients = [figure / reference for figure, reference in pairs if reference]
        return spread(quotients) if quotients else None

    @property
    def judged(self) -> Spread | None:
        """What the goal is about: the figure or the ratio."""
        return self.figure if self.goal and self.goal.of_figure else self.ratio

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached; none without a goal."""
        if self.goal is None or self.judged is None:
            return None
        return self.goal.holds(self.judged.median)


@dataclass
class Result:
    """What a benchmark measured, when, and on how busy a machine."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quick: bool = False
    repetitions: int = 0
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M %Z"))
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    seconds: float = 0
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        what: str,
        against: str,
        unit: str,
        figures: Iterable[float],
        references: Iterable[float] = (),
        goal: Goal | None = None,
    ) -> Row:
        """Add a row and return it."""
        row = Row(what, against, unit, list(figures), list(references), goal)
        self.rows.append(row)
        return row


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the lowest and the highest of some values."""
    return Spread(statistics.median(values), min(values), max(values))


def median_ratio(row: Row) -> float:
    """Return the median ratio of a row, to compare rows by; 0 without a reference."""
    return row.ratio.median if row.ratio else 0.0


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def short(value: float) -> str:
    """Write a number with three digits that count."""
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.3g}"


def load(path: Path) -> dict[str, Result]:
    """Return the results that `save` wrote, by name; none if there is no such file."""
    if not path.exists():
        return {}

    return {
        name: _result(stored) for name, stored in json.loads(path.read_text()).items()
    }


def save(path: Path, results: Mapping[str, Result]) -> None:
    """Write results to a file."""
    stored = {name: asdict(result) for name, result in results.items()}
    path.write_text(json.dumps(_rounded(stored), indent=1, ensure_ascii=False) + "\n")


def _result(stored: dict[str, Any]) -> Result:
    rows = [
        Row(**{**row, "goal": Goal(**row["goal"]) if row["goal"] else None})
        for row in stored.pop("rows")
    ]
    return Result(rows=rows, **stored)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
