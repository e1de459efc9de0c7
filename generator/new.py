"""Make a project: ask, show what will be made, make it, and say how to start it."""

import shlex
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from generator.rendering import has_changes, render
from generator.steps import UNREPEATABLE, print_commands, print_remark, take
from hooks import before
from hooks.after import NEW, Step
from hooks.commands import uv
from hooks.refusal import Refusal

_FIRST_REQUEST = {
    "nice_to_have": ("signups", '{"email": "ada@example.com"}'),
    "must_happen": ("orders", '{"email": "ada@example.com", "amount": "12.50"}'),
}


def make_project(
    template: Path,
    target: Path,
    data: Mapping[str, str],
    *,
    declined: Collection[str],
    ask: bool,
    console: Console,
) -> bool:
    """Make a project at `target`; return whether every step that was wanted succeeded.

    Raises:
        Refusal: Something stands in the way, or the user changed their mind; nothing
            is written.
    """
    before.check_tools()
    before.check_target(target, template)

    answers = render(template, target, data, ask=ask, pretend=True)

    steps = [step for step in NEW if step.name not in declined]
    console.print(_summary(target, answers, steps))
    if has_changes(template):
        print_remark(f"{template} has uncommitted changes: {UNREPEATABLE}.", console)

    if ask and not Confirm.ask("Make it?", console=console, default=True):
        raise Refusal("stopped: nothing was written")
    render(template, target, answers)

    failed = [
        step.name
        for step in steps
        if not take(step, target, answers["project_name"], console)
    ]

    _print_next_steps(target, answers["delivery"], console)
    return not failed


def _summary(
    target: Path, answers: Mapping[str, str], steps: Collection[Step]
) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("folder", Text(str(target), style="bold"))

    for name, answer in answers.items():
        table.add_row(
            name.replace("_", " "), Text(answer.replace("_", " "), style="bold")
        )

    for step in steps:
        table.add_row("then", step.title)
    return table


def _print_next_steps(target: Path, delivery: str, console: Console) -> None:
    path, body = _FIRST_REQUEST[delivery]
    lines = [
        f"cd {shlex.quote(str(target))}",
        ".venv/bin/uvicorn app.main:app",
    ]
    if not (target / ".venv").exists():
        program = "uv" if shutil.which("uv") else shlex.quote(uv()[0])
        lines.insert(1, f"{program} sync")

    requests = [
        f"curl -i localhost:8000/{path} -H 'content-type: application/json' -d '{body}'"
    ]
    if delivery == "must_happen":
        requests.append("curl localhost:8000<the Location of the answer>")

    console.print("\nNext:\n")
    print_commands(lines, console)
    console.print("\nand, in another terminal:\n")
    print_commands(requests, console)
    console.print(
        "\nREADME.md says more; docs/delivery.md, what is promised about tasks."
    )
