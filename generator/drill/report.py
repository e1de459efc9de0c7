"""Show how a drill is going and how it ended, live or with a line per run."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from generator.drill.inside.faults import FAULTS
from generator.drill.references import REFERENCES
from generator.drill.session import Result
from generator.variants import VARIANTS
from hooks.refusal import Refusal

COLUMNS = (
    "answered",
    "recorded",
    "succeeded",
    "failed",
    "lost",
    "again",
    "effects -/+",
    "back after",
    "errors",
    "p99 ms",
)
PHASES = ("before", "during", "after")


class Progress:
    """The results so far and what happens now; use it as a context manager."""

    def __init__(self, console: Console, runs: int) -> None:
        self.results: list[Result] = []
        self._console = console
        self._runs = runs
        self._now: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def on_progress(self, target: str, fault: str, text: str) -> None:
        """Say what happens to a target."""
        self._now[target] = (fault, text)

    def on_result(self, result: Result) -> None:
        """Say how a run ended, and everything that explains a broken promise."""
        self.results.append(result)
        if not self._console.is_terminal or result.broken:
            self._console.print(_line(result), soft_wrap=True)
        for name, lines in result.figures.get("logs", {}).items():
            text = "\n".join(line[:300] for line in lines[-15:])
            self._console.print(
                Text(f"--- {name}\n{text}", style="dim"), soft_wrap=True
            )

    def _render(self) -> RenderableType:
        elapsed = time.monotonic() - self._started
        now = [
            Text(f"{name}: {' · '.join(filter(None, now))}")
            for name, now in self._now.items()
        ]
        done = Text(
            f"{len(self.results)} of {self._runs} runs, {elapsed:.0f} s", style="dim"
        )
        return Group(summary(self.results), *now, done)


def summary(results: Iterable[Result]) -> Table:
    """Return a table with a row per run."""
    table = Table("target", "fault", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for result in results:
        cells = figures(result)
        table.add_row(result.target, result.fault, *cells, verdict(result))
    return table


def figures(result: Result) -> list[str]:
    """Return the cells of a run's row."""
    counted = result.figures
    if "answered" not in counted:
        return ["-"] * len(COLUMNS)

    again, errors, p99 = counted["again"], counted["errors"], counted["p99"]
    back = f"{again['median']:.0f}/{again['max']:.0f} s" if again["tasks"] else "-"
    names = ("answered", "recorded", "succeeded", "failed", "lost", "started_again")
    return [
        # Without a ledger, none is failed.
        *(f"{counted.get(name, '-')}" for name in names),
        f"{counted['effects_missing']}/{counted['effects_doubled']}",
        back,
        "/".join(str(errors[phase]) for phase in PHASES),
        "/".join(_milliseconds(p99[phase]) for phase in PHASES),
    ]


def verdict(result: Result) -> Text:
    """Return whether a run kept its promises, or what became of a reference's tasks."""
    if result.broken:
        return Text("; ".join(result.broken), style="red")
    if result.is_reference:
        return Text(outcome(result), style="yellow" if damages(result) else "green")
    return Text("kept", style="green")


def damages(result: Result) -> dict[str, int]:
    """Return how many tasks or orders went wrong, by the ways that occurred."""
    counted = result.figures
    names = {"lost": "lost", "effects_doubled": "doubled", "stranded": "stranded"}
    return {word: counted[name] for name, word in names.items() if counted.get(name)}


def outcome(result: Result) -> str:
    """Return in words what became of the tasks of a run."""
    counted = result.figures
    if "answered" not in counted:
        return "did not run"

    words = {"lost": 0, **damages(result)}
    # Where none is lost, what is left has just run and is about to be acknowledged.
    if counted["lost"] and (left := counted.get("left_in_broker")):
        words["left in the broker"] = left
    return ", ".join(f"{number} {word}" for word, number in words.items())


def heading(result: Result) -> str:
    """Return what a run's column or table is called."""
    return result.target + (" (SQLite)" if result.database == "sqlite" else "")


def latest(results: Iterable[Result]) -> list[Result]:
    """Return the last run of each pair, by target and by fault."""
    runs = {(heading(result), result.fault): result for result in results}
    targets, faults = [*VARIANTS, *REFERENCES], list(FAULTS)

    def place(result: Result) -> tuple[bool, int, str, int]:
        is_known = result.target in targets
        number = targets.index(result.target) if is_known else len(targets)
        is_embedded = result.database == "sqlite"
        return is_embedded, number, result.target, faults.index(result.fault)

    return sorted(runs.values(), key=place)


def dump(results: Sequence[Result], path: Path) -> None:
    """Write all results as JSON."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def load(paths: Iterable[Path]) -> list[Result]:
    """Read results that were written before.

    Raises:
        Refusal: A file holds something else.
    """
    results: list[Result] = []
    for path in paths:
        try:
            rows: list[dict[str, Any]] = json.loads(path.read_text())
            results += [Result(**row) for row in rows]
        except (OSError, ValueError, TypeError) as error:
            raise Refusal(f"{path} holds no results of a drill: {error}") from None
    return results


def _line(result: Result) -> Text:
    seconds = result.figures.get("seconds", 0)
    line = f"{result.target:<30} {result.fault:<21} {seconds:6.1f} s  "
    return Text(line).append_text(verdict(result))


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"
