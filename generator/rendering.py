"""Render the template through Copier's API, and turn what it refuses into one line."""

import re
import threading
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from generator.compiling import compiled_once
from hooks.commands import run
from hooks.refusal import Refusal

ANSWERS = ".copier-answers.yml"
CURRENT = ":current:"  # as Copier calls it

# Copier changes the working directory of the whole process while it clones the
# template.
_one_at_a_time = threading.Lock()


def find_template(given: Path | None = None) -> Path:
    """Return the root of the template's repository: the given one, or our own.

    It is absolute, because a project remembers it and a relative one would break its
    updates.

    Raises:
        Refusal: There is no template.
    """
    root = (given or Path(__file__).parent.parent).resolve()
    if (root / "copier.yml").is_file():
        return root

    if given:
        raise Refusal(
            f"{given} holds no template: name a clone of the Must Happen repository"
        )
    raise Refusal(
        "this installation has no template beside it:"
        " name a clone of the Must Happen repository with --template"
    )


def has_changes(template: Path) -> bool:
    """Whether the template's repository holds changes that no commit records.

    They are rendered, but from a commit that only Copier's temporary clone has.
    """
    return bool(run(["git", "status", "--porcelain"], template).output.strip())


def read_questions(template: Path) -> Mapping[str, Any]:
    """Return the template's questions, by name, in the order they are asked.

    What is computed from other answers is no question.
    """
    config = yaml.safe_load((template / "copier.yml").read_text())
    return {
        name: details
        for name, details in config.items()
        if not name.startswith("_") and details.get("when") is not False
    }


def render(
    template: Path,
    target: Path,
    data: Mapping[str, str],
    *,
    ask: bool = False,
    pretend: bool = False,
) -> dict[str, str]:
    """Render a project into `target`, and return all answers.

    What `data` does not answer is asked in the terminal, or takes its default. With
    `pretend`, nothing is written.

    Raises:
        Refusal: An answer is unknown, invalid or contradicts another, or the template
            is broken.
    """
    if unknown := data.keys() - (questions := read_questions(template)).keys():
        raise _unknown(unknown, questions)
    from copier import run_copy  # noqa: PLC0415 - see `_copier`

    with _copier(str(template)):
        worker = run_copy(
            str(template),
            target,
            data=dict(data),
            # Otherwise the newest tag is rendered, not this working tree.
            vcs_ref="HEAD",
            defaults=not ask,
            pretend=pretend,
            quiet=True,
        )

    answers = worker.answers
    return {
        name: answers.combined[name] for name in questions if name not in answers.hidden
    }


def read_answers(project: Path) -> dict[str, Any]:
    """Return what a project was made from: answers, and the template it came from.

    Raises:
        Refusal: The folder holds no project that can be updated.
    """
    try:
        answers = yaml.safe_load((project / ANSWERS).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(
            f"{project} is no project made by this command: no {ANSWERS}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        answers = None

    missing = [
        name
        for name in ("_src_path", "_commit", "delivery")
        if not isinstance(answers, dict) or not isinstance(answers.get(name), str)
    ]
    if missing:
        raise Refusal(
            f"{project / ANSWERS} is broken, it has no {', '.join(missing)}:"
            " take it back from git's history"
        )

    return dict(answers)


def render_again(answers: Mapping[str, Any], target: Path) -> None:
    """Render what a project was made from, as it was before anybody edited it.

    Raises:
        Refusal: The template cannot be reached.
    """
    from copier import run_copy  # noqa: PLC0415 - see `_copier`

    data = {
        name: answer for name, answer in answers.items() if not name.startswith("_")
    }
    with _copier(answers["_src_path"]):
        run_copy(
            answers["_src_path"],
            target,
            data=data,
            vcs_ref=answers["_commit"],
            defaults=True,
            quiet=True,
        )


def update(
    project: Path,
    data: Mapping[str, str],
    *,
    ref: str | None,
    keep: Collection[str] = (),
    ask: bool = False,
) -> None:
    """Merge another version of the template, or other answers, into a project.

    `ref` names the version: the newest release when it is None, the project's own when
    `CURRENT`. The template lets go of the files in `keep`: they stay as the user's own.

    Raises:
        Refusal: An answer is unknown, invalid or contradicts another, or the template
            or the version cannot be reached.
    """
    from copier import VcsRef, run_update  # noqa: PLC0415 - see `_copier`

    with _copier(read_answers(project)["_src_path"]):
        worker = run_update(
            project,
            data=dict(data),
            vcs_ref=VcsRef(ref) if ref == CURRENT else ref,
            defaults=not ask,
            overwrite=True,
            quiet=True,
            exclude=[f"/{path}" for path in keep],
        )

    if unknown := data.keys() - worker.template.questions_data.keys():
        raise _unknown(unknown, worker.template.questions_data)


@contextmanager
def _copier(template: str) -> Iterator[None]:
    """Let one thread at a time use Copier, and turn what it refuses into one line."""
    # Not at the top: a command that renders nothing need not wait half a second for it.
    from copier.errors import (  # noqa: PLC0415
        CopierAnswersInterrupt,
        CopierError,
        CopierWarning,
    )
    from jinja2 import TemplateError  # noqa: PLC0415

    with (
        _one_at_a_time,
        compiled_once(),
        warnings.catch_warnings(),
        redirect_stderr(StringIO()),
    ):
        warnings.simplefilter("ignore", CopierWarning)
        try:
            yield
        except CopierAnswersInterrupt:
            raise Refusal("stopped: nothing was written") from None
        except (CopierError, TemplateError, ValueError, OSError) as error:
            raise Refusal(_in_one_line(error, template)) from error


def _unknown(unknown: Collection[str], questions: Collection[str]) -> Refusal:
    return Refusal(
        f"unknown answer {', '.join(sorted(unknown))}:"
        f" the questions are {', '.join(questions)}"
    )


def _in_one_line(error: Exception, template: str) -> str:
    text = str(getattr(error, "stderr", None) or error).strip()  # of a git that failed
    if found := re.search(
        r"(?:Unknown revision:|invalid reference:) '?([^'\n]*)", text
    ):
        return f"the template {template} has no version {found[1]}"

    if {"clone", "ls-remote", "remote"} & set(getattr(error, "argv", ())) or (
        text == "Local template must be a directory."
    ):
        return (
            f"the template {template} cannot be reached: if it has moved,"
            f" write its new address as _src_path into {ANSWERS} and commit that"
        )

    return re.sub(
        r"^(Validation error for question|Invalid choice for) '(\w+)'", r"\2", text
    )
