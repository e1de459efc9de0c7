"""Release the template and put projects under git: Copier updates between commits."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from copier import VcsRef, run_copy, run_update

from generator.compiling import compiled_once
from generator.rendering import ANSWERS
from generator.variants import Variant

ROOT = Path(__file__).parent.parent
NAME = "Order Service"

EVERY_PROJECT = "template/project/{{ every_project }}"
WHERE_TASKS_MUST_HAPPEN = "template/project/{{ must_happen }}"
"""The folders of two layers of the template."""

# What tools and Python itself leave behind, and no project has in its history.
LEFTOVERS = {
    ".git",
    ".venv",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}

Tree = Mapping[str, tuple[int, bytes] | None]


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody whose own configuration is empty, and return what it says."""
    done = subprocess.run(
        [
            *("git", "-c", "user.name=test", "-c", "user.email=test@example.com"),
            *("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"),
            *("-c", "init.defaultBranch=main", "-c", "advice.detachedHead=false"),
            *arguments,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, (
        f"git {' '.join(arguments)}: {done.stdout}{done.stderr}"
    )
    return done.stdout


def commit(folder: Path, message: str = "Change something") -> None:
    """Record everything in a folder, which becomes a repository if it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


class Template:
    """The working tree's template, committed or not, in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder / "template", ignore_errors=True)
        ignored = shutil.ignore_patterns(*LEFTOVERS)
        shutil.copytree(ROOT / "template", folder / "template", ignore=ignored)
        shutil.copy(ROOT / "copier.yml", folder)
        commit(folder, "Take the working tree")

    def release(self, version: str) -> None:
        """Commit the template's files and give them a version."""
        commit(self.folder, f"Release {version}")
        git(self.folder, "tag", version)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a text that occurs once in one of the template's files."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, f"{path} holds {text.count(old)} times: {old}"
        file.write_text(text.replace(old, new))

    def generate(
        self, project: Path, variant: Variant, *, ref: str = "HEAD", **answers: str
    ) -> Path:
        """Make a project as a user does, and record it in a repository."""
        data = {"project_name": NAME, **variant.answers, **answers}

        with compiled_once():
            run_copy(
                str(self.folder),
                project,
                data=data,
                vcs_ref=ref,
                defaults=True,
                quiet=True,
            )

        commit(project, "Start")
        return project


def switch(project: Path, **answers: str) -> None:
    """Do `copier update --defaults -d <question>=<answer> … -r :current:`."""
    with compiled_once():
        run_update(
            project,
            data=answers,
            vcs_ref=VcsRef.CURRENT,
            defaults=True,
            overwrite=True,
            quiet=True,
        )


def switch_to(project: Path, source: Variant, target: Variant) -> None:
    """Switch a project of one variant to another, answering only what differs."""
    differing = target.answers.items() - source.answers.items()
    switch(project, **dict(differing))


def update(project: Path, ref: str | None = None) -> None:
    """Do `copier update --defaults`: take the newest release, or the one named."""
    with compiled_once():
        run_update(project, vcs_ref=ref, defaults=True, overwrite=True, quiet=True)


def tree(project: Path) -> Tree:
    """Return every file of a project with its mode and content, and every folder."""
    return {
        str(path.relative_to(project)): (
            (path.stat().st_mode, path.read_bytes()) if path.is_file() else None
        )
        for path in _paths(project)
    }


def differences(ours: Tree, theirs: Tree) -> list[str]:
    """Return the paths that two trees do not share, or hold in different ways."""
    return sorted(
        path
        for path in ours.keys() | theirs.keys()
        if ours.get(path, ()) != theirs.get(path, ())
    )


def conflicts(project: Path) -> list[str]:
    """Return the paths that are unmerged, hold markers or are rejected hunks."""
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()

    marked = [
        str(path.relative_to(project))
        for path in _paths(project)
        if path.suffix == ".rej"
        or (
            path.is_file()
            and (b"<<<<<<< " in path.read_bytes() or b">>>>>>> " in path.read_bytes())
        )
    ]

    return sorted({*unmerged, *marked})


def without_bookkeeping(found: Tree) -> Tree:
    """Leave out of a tree which commit of which template it was made from."""
    mode, content = found[ANSWERS] or (0, b"")
    lines = [
        line
        for line in content.splitlines()
        if not line.startswith((b"_commit:", b"_src"))
    ]
    return {**found, ANSWERS: (mode, b"\n".join(lines))}


def without(found: Tree, *paths: str) -> Tree:
    """Leave these paths out of a tree."""
    return {path: content for path, content in found.items() if path not in paths}


def _paths(project: Path) -> Iterator[Path]:
    for path in project.iterdir():
        if path.name not in LEFTOVERS:
            yield path
            if path.is_dir():
                yield from _paths(path)
