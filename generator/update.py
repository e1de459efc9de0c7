"""Update a project: rehearse, say what will happen, do it, and say what is left.

Copier refuses some things halfway and does others silently. On a clone, where we
rehearse, neither does harm.
"""

import shlex
import tempfile
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from generator.rendering import CURRENT, read_answers, render_again
from generator.rendering import update as merge
from generator.steps import UNREPEATABLE, print_commands, print_remark, take
from generator.variants import name_of
from hooks import before
from hooks.after import INSTALL, TEST
from hooks.commands import git, run
from hooks.conflicts import find_conflicts
from hooks.refusal import Refusal

_KINDS = {  # Those that need a decision come last.
    "change": "",
    "add": "green",
    "delete": "red",
    "keep": "yellow",
    "conflict": "bold red",
}


@dataclass
class Rehearsal:
    """What an update does: to the answers, the version and the files."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    ref: str | None
    files: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in _KINDS}
    )

    @property
    def name(self) -> str:
        """What it does in a few words."""
        variant = name_of(self.after)
        if variant != name_of(self.before):
            return f"switch to {variant}"
        return f"update to {self.after['_commit']}"


@dataclass(frozen=True, kw_only=True)
class UpdateOptions:
    """How to update."""

    ref: str | None
    """The template's version. None: the newest release; with answers, the same one."""

    delete: Collection[str]
    """Files that the update may delete although they were edited."""

    preview: bool
    install: bool
    test: bool | None
    """Whether to run the tests that need no server; None asks if somebody is there."""

    interactive: bool
    """Whether somebody is there who can answer."""

    ask: bool
    """Whether to ask the template's questions, and before anything is written."""


def update_project(
    project: Path, data: Mapping[str, str], options: UpdateOptions, console: Console
) -> bool:
    """Update `project`; return whether every step succeeded, without a conflict.

    Raises:
        Refusal: Something stands in the way, or the user changed their mind; nothing
            is written.
    """
    before.check_tools()
    answers = read_answers(project)
    before.check_project(project)

    with nullcontext() if options.ask else console.status("rehearsal on a clone …"):
        rehearsal = _rehearse(project, answers, data, options)
    _print_summary(project, rehearsal, console, in_full=options.preview)
    if options.preview or not any(rehearsal.files.values()):
        return True

    if options.ask and not Confirm.ask(
        f"\n{rehearsal.name.capitalize()}?", console=console, default=True
    ):
        raise Refusal("stopped: nothing was written")

    _merge(project, rehearsal, console)
    return _follow_up(project, rehearsal, options, console)


def _merge(project: Path, rehearsal: Rehearsal, console: Console) -> None:
    """Do for the project what was rehearsed."""
    chosen = {
        key: value for key, value in rehearsal.after.items() if not key.startswith("_")
    }
    with console.status(f"{rehearsal.name} …"):
        merge(project, chosen, ref=rehearsal.ref, keep=rehearsal.files["keep"])
    console.print(Text(f"✓ {rehearsal.name}", style="green"), soft_wrap=True)


def _follow_up(
    project: Path, rehearsal: Rehearsal, options: UpdateOptions, console: Console
) -> bool:
    """Install and test what was merged, and say what is left to do."""
    name = rehearsal.after["project_name"]
    succeeded = not options.install or take(INSTALL, project, name, console)
    conflicts = find_conflicts(project)

    if not conflicts:
        test = options.test
        if test is None and options.interactive and (project / ".venv").exists():
            test = Confirm.ask(
                "\nRun the tests that need no server?", console=console, default=True
            )
        if test and succeeded:
            succeeded = take(TEST, project, name, console)

    _print_next_steps(project, rehearsal, conflicts, console)
    return succeeded and not conflicts


def _rehearse(
    project: Path,
    answers: Mapping[str, Any],
    data: Mapping[str, str],
    options: UpdateOptions,
) -> Rehearsal:
    """Update a clone, and find out what that did to it."""
    with tempfile.TemporaryDirectory(prefix="musthappen-") as folder:
        twin = _clone(project, Path(folder).resolve() / "clone")
        ref = _merge_into_clone(twin, data, options)
        rehearsal = Rehearsal(answers, read_answers(twin), ref)
        if not options.ask:
            _refuse_other_answers(rehearsal, data)

        _sort_files(rehearsal, twin)
        delete = options.delete
        if rehearsal.files["delete"]:
            _keep_edited(rehearsal, project, Path(folder, "unedited"), delete)
        if wrong := set(delete) - set(rehearsal.files["delete"]):
            raise Refusal(f"--delete {min(wrong)}: the update deletes no such file")

    return rehearsal


def _clone(project: Path, clone: Path) -> Path:
    """Clone the project's repository; return where the project is in the clone."""
    top = Path(git(project, "rev-parse", "--show-toplevel").output.strip())
    cloned = run(
        ["git", "clone", "--quiet", "--shared", "--", str(top), str(clone)], top
    )
    if not cloned.ok:
        raise Refusal(f"git cannot clone {top}: {cloned.last_line}")

    return clone / project.relative_to(top)


def _merge_into_clone(
    twin: Path, data: Mapping[str, str], options: UpdateOptions
) -> str | None:
    """Update a clone, and return to which version."""
    ref = options.ref
    if data and ref is None:
        ref = CURRENT  # One thing at a time: what then conflicts has one reason.

    try:
        merge(twin, data, ref=ref, ask=options.ask)
    except Refusal as refusal:
        if ref is not None or "downgrading" not in str(refusal):
            raise
        ref = CURRENT  # The project was made after the newest release.
        merge(twin, data, ref=ref, ask=options.ask)

    return ref


def _refuse_other_answers(rehearsal: Rehearsal, data: Mapping[str, str]) -> None:
    """Refuse to replace an answer that has become invalid when nobody is asked."""
    for name, answer in rehearsal.before.items():
        now = rehearsal.after.get(name, answer)
        if now != answer and name not in data and not name.startswith("_"):
            raise Refusal(
                f"{name}={answer} does not go with the other answers:"
                f" add --data {name}={now}, or another choice"
            )


def _sort_files(rehearsal: Rehearsal, twin: Path) -> None:
    conflicts = find_conflicts(twin)
    top = Path(git(twin, "rev-parse", "--show-toplevel").output.strip())
    options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
    for line in git(twin, "status", *options, "--", ".").output.split("\0")[:-1]:
        status, path = line[:2], (top / line[3:]).relative_to(twin).as_posix()
        kind = {"??": "add", " D": "delete"}.get(status, "change")
        rehearsal.files["conflict" if path in conflicts else kind].append(path)


def _keep_edited(
    rehearsal: Rehearsal, project: Path, unedited: Path, delete: Collection[str]
) -> None:
    """Keep those files that are not as the template made them and were not given up."""
    render_again(rehearsal.before, unedited)

    files = rehearsal.files
    files["keep"] = [
        path
        for path in files["delete"]
        if path not in delete
        and not cmp(project / path, unedited / path, shallow=False)
    ]
    files["delete"] = [path for path in files["delete"] if path not in files["keep"]]


def _print_summary(
    project: Path, rehearsal: Rehearsal, console: Console, *, in_full: bool
) -> None:
    old, new = rehearsal.before, rehearsal.after
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("project", Text(str(project), style="bold"))
    table.add_row("variant", _change(name_of(old), name_of(new)))
    for name in ("project_name", "project_slug"):
        if old.get(name) != new.get(name):
            table.add_row(
                name.replace("_", " "), _change(old.get(name, "-"), new.get(name, "-"))
            )
    table.add_row("template", _change(old["_commit"], new["_commit"]))
    console.print(table)

    source = Path(new["_src_path"])
    if (
        source.is_dir()
        and not git(source, "cat-file", "-e", f"{new['_commit']}^{{commit}}").ok
    ):
        print_remark(f"{source} has uncommitted changes: {UNREPEATABLE}.", console)

    if any(rehearsal.files.values()):
        _print_files(rehearsal, console, in_full=in_full)
    else:
        console.print("\nNothing changes.")


def _print_files(rehearsal: Rehearsal, console: Console, *, in_full: bool) -> None:
    console.print()
    for kind, style in _KINDS.items():
        paths = rehearsal.files[kind]
        if in_full or kind in {"keep", "conflict"}:
            for path in paths:
                console.print(Text(f"{kind:<10}{path}", style=style), soft_wrap=True)
        elif paths:
            files = "file" if len(paths) == 1 else "files"
            console.print(Text(f"{kind:<10}{len(paths)} {files}", style=style))

    if rehearsal.files["keep"]:
        console.print(
            "\nkeep: the template lets go of these files, and you edited them."
            " They become your own; --delete FILE gives one up."
        )
    if rehearsal.files["conflict"]:
        console.print("\nconflict: you and the template changed the same lines.")


def _change(old: str, new: str) -> Text:
    return Text(
        new if old == new else f"{old} → {new}", style="" if old == new else "bold"
    )


def _print_next_steps(
    project: Path, rehearsal: Rehearsal, conflicts: Collection[str], console: Console
) -> None:
    commands = [] if project == Path.cwd() else [f"cd {shlex.quote(str(project))}"]
    if conflicts:
        console.print(Text("\nConflicts remain in:\n", style="bold red"))
        print_commands(conflicts, console)
        console.print(
            "\nIn each, choose between your lines, above `=======`, and the template's,"
            " below it; delete the marks. Then:\n"
        )
        commands += ["uv sync", "uv run pytest", "git add ."]
    else:
        console.print("\nLook at what changed, then commit it:\n")
        commands += ["git add .", "git diff --staged"]

    print_commands(
        [*commands, f'git commit --message "{rehearsal.name.capitalize()}"'], console
    )
    is_served = rehearsal.before["delivery"] == "must_happen"
    if is_served and name_of(rehearsal.before) != name_of(rehearsal.after):
        console.print("\ndocs/delivery.md says how a live service takes this.")
