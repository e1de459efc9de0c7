"""Take the steps that follow a render, and say how each one went."""

from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hooks.after import Step
from hooks.refusal import Refusal

UNREPEATABLE = "a project made of them cannot be updated"


def take(step: Step, project: Path, name: str, console: Console) -> bool:
    """Take a step and print how it went; return whether it succeeded."""
    with console.status(f"{step.title} …"):
        try:
            remark = step.run(project.resolve(), name)
        except Refusal as refusal:
            console.print(
                Text(f"✗ {step.title}: {refusal}", style="red"), soft_wrap=True
            )
            return False

    mark, style = ("!", "yellow") if remark else ("✓", "green")
    line = f"{mark} {step.title}" + (f": {remark}" if remark else "")
    console.print(Text(line, style=style), soft_wrap=True)
    return True


def print_commands(commands: Collection[str], console: Console) -> None:
    """Print command lines to be copied."""
    for command in commands:
        # As it is: a wrapped or highlighted command could not be copied.
        console.print(Text(f"    {command}"), soft_wrap=True)


def print_remark(remark: str, console: Console) -> None:
    """Print what should be known before going on."""
    console.print(Text(remark, style="yellow"), soft_wrap=True)
