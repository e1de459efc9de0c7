"""The command `musthappen`: what can be asked of this repository, in a terminal or in CI."""

import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from generator.check import Check, Report, Step
from generator.commands import stop_all
from generator.new import make_project
from generator.progress import Progress
from generator.refusal import Refusal
from generator.rendering import find_template
from generator.variants import PYTHONS, VARIANTS, find_variants
from hooks import before

app = typer.Typer(
    help="FastAPI projects whose background tasks keep the promise that was chosen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Template = Annotated[
    Path | None,
    typer.Option(help="A clone of the Must Happen repository, if not the one we run from."),
]


@app.command()
def variants() -> None:
    """List the variants: every valid combination of answers that changes what is generated."""
    table = Table("variant", "delivery", "engine", "broker")
    for variant in VARIANTS.values():
        answers = variant.answers
        table.add_row(
            variant.name, *(answers.get(key, "-") for key in ("delivery", "engine", "broker"))
        )
    console.print(table)


@app.command()
def matrix() -> None:
    """Print the jobs of a CI matrix as JSON: every variant on every supported Python."""
    jobs = [{"variant": name, "python": python} for name in VARIANTS for python in PYTHONS]
    typer.echo(json.dumps({"include": jobs}))


@app.command()
def new(
    target: Annotated[Path, typer.Argument(metavar="DEST", help="The folder to make.")],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", metavar="KEY=VALUE", help="Answer a question beforehand."),
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", "-l", help="Ask nothing: take the default answers.")
    ] = False,
    install: Annotated[bool, typer.Option(help="Lock and install the dependencies.")] = True,
    git: Annotated[bool, typer.Option(help="Start a git repository with a first commit.")] = True,
    pre_commit: Annotated[bool, typer.Option(help="Install the checks before commits.")] = True,
    template: Template = None,
) -> None:
    """Make a project: a few questions, a summary, and a service that runs."""
    wanted = {"install": install, "git": git, "pre-commit": pre_commit}
    succeeded = make_project(
        find_template(template),
        target,
        dict(_key_and_value(answer) for answer in data or ()),
        declined={name for name, is_wanted in wanted.items() if not is_wanted},
        ask=not defaults and sys.stdin.isatty() and console.is_terminal,
        console=console,
    )
    if not succeeded:
        raise typer.Exit(1)


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="VARIANT", help="Which; all when none is named.")
    ] = None,
    steps: Annotated[
        list[Step] | None, typer.Option("--step", help="Only this step; can be repeated.")
    ] = None,
    python: Annotated[str, typer.Option(help="The Python to check with.")] = sys.executable,
    jobs: Annotated[int, typer.Option(min=1, help="How many variants at a time.")] = 1,
    keep: Annotated[
        Path | None, typer.Option("--keep", "--output", help="Where to leave the projects.")
    ] = None,
    template: Template = None,
) -> None:
    """Render variants, and let their own linters, types, hooks and tests judge them."""
    reports = [Report(variant) for variant in find_variants(names or [])]
    root = find_template(template)
    before.check_tools()
    if keep:
        for report in reports:
            before.check_target(keep / report.variant.name, root)
    with Progress(console, reports) as progress:
        judge = Check(root, steps or tuple(Step), python, progress.on_result).judge
        with tempfile.TemporaryDirectory(prefix="musthappen-") as folder:
            _judge_all(judge, reports, (keep or Path(folder)).resolve(), jobs)
    progress.print_summary()
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def main() -> None:
    """Run the command; a refusal is one line and exit code 2."""
    try:
        app()
    except (Refusal, OSError) as reason:
        typer.secho(f"musthappen: {reason}", fg="red", err=True)
        sys.exit(2)


def _key_and_value(answer: str) -> tuple[str, str]:
    key, separator, value = answer.partition("=")
    if not separator:
        raise Refusal(f"--data {answer} has no value: write it as {answer}=VALUE")
    return key, value


def _judge_all(
    judge: Callable[[Report, Path], None], reports: list[Report], folder: Path, jobs: int
) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = [pool.submit(judge, report, folder / report.variant.name) for report in reports]
        try:
            for verdict in verdicts:
                verdict.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
