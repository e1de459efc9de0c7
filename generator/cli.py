"""Offer the command `musthappen`: all that this repository can be asked to do."""

import json
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from generator import options
from generator.check import Check, Report, Step
from generator.drill.command import drill
from generator.new import make_project
from generator.progress import Progress
from generator.rendering import find_template
from generator.update import UpdateOptions, update_project
from generator.variants import PYTHONS, VARIANTS, find_variants
from hooks import before
from hooks.commands import forget_repository, stop_all
from hooks.refusal import Refusal

app = typer.Typer(
    help="FastAPI projects whose background tasks keep the promise that was chosen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("drill")(drill)
console = Console()


@app.command("variants")
def variants() -> None:
    """List the variants: every valid combination of answers that makes a difference."""
    table = Table("variant", "delivery", "engine", "broker")
    for variant in VARIANTS.values():
        answers = variant.answers
        table.add_row(
            variant.name,
            *(answers.get(key, "-") for key in ("delivery", "engine", "broker")),
        )
    console.print(table)


@app.command("matrix")
def matrix() -> None:
    """Print the jobs of a CI matrix as JSON: every variant on every Python."""
    jobs = [
        {"variant": name, "python": python} for name in VARIANTS for python in PYTHONS
    ]
    typer.echo(json.dumps({"include": jobs}))


@app.command("new")
def new(
    target: options.Destination,
    data: options.Data = None,
    defaults: options.DefaultAnswers = False,
    install: options.Install = True,
    git: options.Git = True,
    commit: options.Commit = True,
    pre_commit: options.PreCommit = True,
    template: options.Template = None,
) -> None:
    """Make a project: a few questions, a summary, and a service that runs."""
    wanted = {
        "install": install,
        "git": git,
        "commit": git and commit,
        "pre-commit": pre_commit,
    }

    succeeded = make_project(
        find_template(template),
        target,
        _answers(data),
        declined={name for name, is_wanted in wanted.items() if not is_wanted},
        ask=not defaults and _in_terminal(),
        console=console,
    )

    if not succeeded:
        raise typer.Exit(1)


@app.command("update")
def update(
    project: options.Project = Path(),
    data: options.Data = None,
    defaults: options.SameAnswers = False,
    preview: options.Preview = False,
    delete: options.Delete = None,
    vcs_ref: options.Version = None,
    install: options.Install = True,
    test: options.Test = None,
) -> None:
    """Take a newer template, or other answers, into a project, around your own work."""
    how = UpdateOptions(
        ref=vcs_ref,
        delete=delete or (),
        preview=preview,
        install=install,
        test=test,
        interactive=_in_terminal(),
        ask=not defaults and _in_terminal(),
    )

    if not update_project(project.resolve(), _answers(data), how, console):
        raise typer.Exit(1)


@app.command("check")
def check(
    names: options.Names = None,
    steps: options.Steps = None,
    python: options.Python = sys.executable,
    jobs: options.Jobs = 1,
    keep: options.KeepAt = None,
    template: options.Template = None,
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
    # What we start lives in sessions of its own: end it when we are told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    forget_repository()

    try:
        _join_others()
        app()
    except (Refusal, OSError) as reason:
        typer.secho(f"musthappen: {reason}", fg="red", err=True)
        sys.exit(2)


def _join_others() -> None:
    """Join the commands of packages above ours, unless one of our own is asked for.

    We may not import them, and what they need takes longer to load than we do.
    """
    known = {command.name for command in app.registered_commands}
    if known.isdisjoint(sys.argv[1:2]):
        joined = distribution("musthappen").entry_points
        for command in joined.select(group="musthappen.commands"):
            if command.name not in known:
                app.command(command.name)(command.load())


def _in_terminal() -> bool:
    return sys.stdin.isatty() and console.is_terminal


def _answers(data: list[str] | None) -> dict[str, str]:
    return dict(_key_and_value(answer) for answer in data or ())


def _key_and_value(answer: str) -> tuple[str, str]:
    key, separator, value = answer.partition("=")
    if not separator:
        raise Refusal(f"--data {answer} has no value: write it as {answer}=VALUE")
    return key, value


def _judge_all(
    judge: Callable[[Report, Path], None],
    reports: list[Report],
    folder: Path,
    jobs: int,
) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = [
            pool.submit(judge, report, folder / report.variant.name)
            for report in reports
        ]

        try:
            for verdict in verdicts:
                verdict.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
