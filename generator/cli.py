"""Offer the command `musthappen`: all that this repository can be asked to do."""

import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from generator.check import Check, Report, Step
from generator.drill.command import drill
from generator.new import make_project
from generator.progress import Progress
from generator.rendering import find_template
from generator.update import Options, update_project
from generator.variants import PYTHONS, VARIANTS, find_variants
from hooks import before
from hooks.commands import stop_all
from hooks.refusal import Refusal

app = typer.Typer(
    help="FastAPI projects whose background tasks keep the promise that was chosen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("drill")(drill)
console = Console()

Template = Annotated[
    Path | None,
    typer.Option(
        help="A clone of the Must Happen repository, if not the one we run from."
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", "-d", metavar="KEY=VALUE", help="Answer a question beforehand."
    ),
]
Install = Annotated[bool, typer.Option(help="Lock and install the dependencies.")]

# The options of `new`.
Destination = Annotated[
    Path, typer.Argument(metavar="DEST", help="The folder to make.")
]
DefaultAnswers = Annotated[
    bool,
    typer.Option("--defaults", "-l", help="Ask nothing: take the default answers."),
]
Git = Annotated[bool, typer.Option(help="Start a git repository.")]
Commit = Annotated[bool, typer.Option(help="Make the first commit in it.")]
PreCommit = Annotated[bool, typer.Option(help="Install the checks before commits.")]

# The options of `update`.
Project = Annotated[Path, typer.Argument(metavar="PROJECT", help="Its folder.")]
SameAnswers = Annotated[
    bool, typer.Option("--defaults", "-l", help="Ask nothing: keep the answers.")
]
Preview = Annotated[
    bool,
    typer.Option(
        "--preview", help="Show what would happen to which file; write nothing."
    ),
]
Delete = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Let the update delete this file although you edited it; can be repeated.",
    ),
]
Version = Annotated[
    str | None,
    typer.Option(
        "--vcs-ref",
        "-r",
        metavar="REF",
        help="The template's version: a tag, branch or commit. The newest release;"
        " with --data, the one that the project has (:current:).",
        show_default=False,
    ),
]
Test = Annotated[
    bool | None,
    typer.Option(
        "--test/--no-test",
        help="Run the project's tests that need no server;"
        " in a terminal, asked by default.",
    ),
]

# The options of `check`.
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="VARIANT", help="Which; all when none is named."),
]
Steps = Annotated[
    list[Step] | None,
    typer.Option("--step", help="Only this step; can be repeated."),
]
Python = Annotated[str, typer.Option(help="The Python to check with.")]
Jobs = Annotated[int, typer.Option(min=1, help="How many variants at a time.")]
KeepAt = Annotated[
    Path | None,
    typer.Option("--keep", "--output", help="Where to leave the projects."),
]


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
    target: Destination,
    data: Data = None,
    defaults: DefaultAnswers = False,
    install: Install = True,
    git: Git = True,
    commit: Commit = True,
    pre_commit: PreCommit = True,
    template: Template = None,
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
    project: Project = Path(),
    data: Data = None,
    defaults: SameAnswers = False,
    preview: Preview = False,
    delete: Delete = None,
    vcs_ref: Version = None,
    install: Install = True,
    test: Test = None,
) -> None:
    """Take a newer template, or other answers, into a project, around your own work."""
    options = Options(
        ref=vcs_ref,
        delete=delete or (),
        preview=preview,
        install=install,
        test=test,
        interactive=_in_terminal(),
        ask=not defaults and _in_terminal(),
    )

    if not update_project(project.resolve(), _answers(data), options, console):
        raise typer.Exit(1)


@app.command("check")
def check(
    names: Names = None,
    steps: Steps = None,
    python: Python = sys.executable,
    jobs: Jobs = 1,
    keep: KeepAt = None,
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
        for command in entry_points(group="musthappen.commands"):
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
