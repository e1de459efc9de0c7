"""Prove a variant: render it, and let its own tools and tests judge it."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree as ET

from generator import types_cache
from generator.rendering import render
from generator.variants import Variant
from hooks.commands import Outcome, run, uv
from hooks.refusal import Refusal

# Far above what a step, and a single test, take on two busy cores: only a hang reaches
# them.
_TIME_LIMIT_SECONDS = 1800
_DUMP_A_HANG = (
    "--override-ini=faulthandler_timeout=600",
    "--override-ini=faulthandler_exit_on_timeout=true",
)

_GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "check",
    "GIT_AUTHOR_EMAIL": "check@example.com",
    "GIT_COMMITTER_NAME": "check",
    "GIT_COMMITTER_EMAIL": "check@example.com",
}


class Step(StrEnum):
    """What happens to a variant, in this order."""

    RENDER = "render"
    INSTALL = "install"
    LINT = "lint"
    FORMAT = "format"
    TYPES = "types"
    PRE_COMMIT = "pre-commit"
    BARE = "bare"
    SERVERS = "servers"


# Without these there is nothing to judge.
PREPARATION = (Step.RENDER, Step.INSTALL)

_TOOLS = {
    Step.LINT: ["ruff", "check"],
    Step.FORMAT: ["ruff", "format", "--check"],
    Step.TYPES: ["mypy"],
    Step.PRE_COMMIT: ["pre-commit", "run", "--all-files"],
    Step.BARE: ["pytest"],
    Step.SERVERS: ["pytest", "-m", "servers"],
}


@dataclass(frozen=True)
class Result:
    """How one step ended; `tests` counts those that ran, with those that failed."""

    step: Step
    ok: bool
    seconds: float
    output: str = ""
    tests: int = 0
    tests_failed: int = 0


@dataclass
class Report:
    """How a variant has fared so far."""

    variant: Variant
    running: Step | None = None
    results: dict[Step, Result] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no step has failed."""
        return all(result.ok for result in self.results.values())

    @property
    def seconds(self) -> float:
        """How long its steps took together."""
        return sum(result.seconds for result in self.results.values())

    def tests(self, step: Step) -> int:
        """How many tests of a step ran."""
        return self.results[step].tests if step in self.results else 0


@dataclass(frozen=True)
class Check:
    """What is done with each variant, and who is told when a step has ended."""

    template: Path
    steps: Sequence[Step]
    python: str
    on_result: Callable[[Report, Result], None]

    def judge(self, report: Report, project: Path) -> None:
        """Render the report's variant at `project` and take each step that applies."""
        for step in Step:
            if step not in (*PREPARATION, *self.steps):
                continue
            if step is Step.SERVERS and not report.variant.must_happen:
                continue

            report.running = step
            result = self._take(step, report.variant, project)
            report.running = None
            report.results[step] = result
            self.on_result(report, result)
            if step in PREPARATION and not result.ok:
                return

    def _take(self, step: Step, variant: Variant, project: Path) -> Result:
        if step is Step.RENDER:
            return self._render(variant, project)
        if step is Step.INSTALL:
            return self._install(project)
        if step is Step.TYPES:
            return self._judge_types(project)
        if step in {Step.BARE, Step.SERVERS}:
            return _run_tests(step, project)
        return _result(step, _run_tool(step, project))

    def _render(self, variant: Variant, project: Path) -> Result:
        data = {"project_name": "Order Service", **variant.answers}
        try:
            render(self.template, project, data)
        except Refusal as refusal:
            return Result(Step.RENDER, ok=False, seconds=0, output=str(refusal))
        return Result(Step.RENDER, ok=True, seconds=0)

    def _install(self, project: Path) -> Result:
        commands = (
            uv("sync", "--python", self.python),
            # pre-commit looks at what git knows.
            ["git", "init", "--quiet"],
            ["git", "add", "--all"],
            ["git", "commit", "--quiet", "--message", "Start"],
        )
        seconds = 0.0

        for command in commands:
            outcome = run(command, project, environment=_GIT)
            seconds += outcome.seconds
            if not outcome.ok:
                break

        return Result(Step.INSTALL, outcome.ok, seconds, outcome.output)

    def _judge_types(self, project: Path) -> Result:
        types_cache.lend(self.template, project)
        result = _result(Step.TYPES, _run_tool(Step.TYPES, project))
        if result.ok:
            types_cache.keep(self.template, project)
        return result


def _run_tool(step: Step, project: Path, *options: str) -> Outcome:
    return run(
        uv("run", "--no-sync", *_TOOLS[step], *options),
        project,
        environment={
            **_GIT,
            # A missing server is an error, not a skipped test.
            "CI": "true",
        },
        time_limit=_TIME_LIMIT_SECONDS,
    )


def _run_tests(step: Step, project: Path) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "junit.xml")
        outcome = _run_tool(step, project, f"--junit-xml={record}", *_DUMP_A_HANG)
        if not record.exists():
            return Result(
                step, ok=False, seconds=outcome.seconds, output=outcome.output
            )
        suites = list(ET.parse(record).iter("testsuite"))  # noqa: S314 - our own

    ran, skipped, failed, errors = (
        sum(int(suite.get(key, 0)) for suite in suites)
        for key in ("tests", "skipped", "failures", "errors")
    )

    output = outcome.output + (
        f"\n{skipped} skipped: every test must run" if skipped else ""
    )
    return Result(
        *(step, outcome.ok and not skipped, outcome.seconds, output),
        tests=ran - skipped,
        tests_failed=failed + errors,
    )


def _result(step: Step, outcome: Outcome) -> Result:
    return Result(step, outcome.ok, outcome.seconds, outcome.output)
