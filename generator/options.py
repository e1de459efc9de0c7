"""Declare the options of the commands, so that a command's signature stays readable."""

from pathlib import Path
from typing import Annotated

import typer

from generator.check import Step

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
