"""Show how a check is going: live in a terminal, a line per step anywhere else."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from generator.check import Report, Result, Step


class Progress:
    """The reports of a check that is under way; use it as a context manager."""

    def __init__(self, console: Console, reports: Sequence[Report]) -> None:
        self._console = console
        self._reports = reports
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

    def on_result(self, report: Report, result: Result) -> None:
        """Say how a step ended, and everything that a failed one had to say."""
        line = f"{report.variant.name:<18} {result.step:<11} {result.seconds:6.1f} s  "
        if result.tests_failed:
            line += f"{result.tests_failed} of "
        if result.tests:
            line += f"{result.tests} tests "
        if not result.ok:
            self._console.print(Text(line + "failed", style="red"))
            self._console.print(Text(result.output.rstrip()), soft_wrap=True)
        elif not self._console.is_terminal:
            self._console.print(Text(line + "ok"))

    def print_summary(self) -> None:
        """Print the table of all reports."""
        self._console.print(summary(self._reports))

    def _render(self) -> RenderableType:
        elapsed = time.monotonic() - self._started
        return Group(summary(self._reports), Text(f"{elapsed:.0f} s", style="dim"))


def summary(reports: Sequence[Report]) -> Table:
    """Return a table with a row per variant: its verdict, tests run, seconds taken."""
    table = Table("variant", "verdict")
    for heading in ("bare tests", "server tests", "seconds"):
        table.add_column(heading, justify="right")
    for report in reports:
        tests = (str(report.tests(step) or "-") for step in (Step.BARE, Step.SERVERS))
        table.add_row(
            report.variant.name, _verdict(report), *tests, f"{report.seconds:.0f}"
        )
    return table


def _verdict(report: Report) -> Text:
    if failed := [result.step for result in report.results.values() if not result.ok]:
        return Text(f"failed: {', '.join(failed)}", style="red")
    if report.running:
        return Text(f"{report.running} …", style="yellow")
    return Text("ok", style="green") if report.results else Text("waiting", style="dim")
