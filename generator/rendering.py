"""Renders the template through Copier's API, and turns what it refuses into one line."""

import re
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from copier import run_copy
from copier.errors import CopierAnswersInterrupt, CopierError, CopierWarning
from jinja2 import TemplateError

from generator.commands import run
from generator.refusal import Refusal

# Copier changes the working directory of the whole process while it clones the template.
_one_at_a_time = threading.Lock()


def find_template(given: Path | None = None) -> Path:
    """Return the root of the template's repository: the one given, or the one we run from.

    Absolute, because a project remembers it and a relative one breaks its updates.

    Raises:
        Refusal: There is no template.
    """
    root = (given or Path(__file__).parent.parent).resolve()
    if (root / "copier.yml").is_file():
        return root
    if given:
        raise Refusal(f"{given} holds no template: name a clone of the Must Happen repository")
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
    """Return the template's questions, by name, in the order they are asked."""
    config = yaml.safe_load((template / "copier.yml").read_text())
    return {name: details for name, details in config.items() if not name.startswith("_")}


def render(
    template: Path,
    target: Path,
    data: Mapping[str, str],
    *,
    ask: bool = False,
    pretend: bool = False,
) -> dict[str, str]:
    """Render a project into `target` and return all answers; with `pretend`, write nothing.

    What `data` does not answer is asked in the terminal, or takes its default.

    Raises:
        Refusal: An answer is unknown, invalid or contradicts another, or the template is broken.
    """
    if unknown := data.keys() - (questions := read_questions(template)).keys():
        raise Refusal(
            f"unknown answer {', '.join(sorted(unknown))}: the questions are {', '.join(questions)}"
        )
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore", CopierWarning)
        try:
            worker = run_copy(
                str(template),
                target,
                data=dict(data),
                vcs_ref="HEAD",  # otherwise the newest tag is rendered, not this working tree
                defaults=not ask,
                pretend=pretend,
                quiet=True,
            )
        except CopierAnswersInterrupt:
            raise Refusal("stopped: nothing was written") from None
        except (CopierError, TemplateError, ValueError) as error:
            raise Refusal(_in_one_line(error)) from error
    answers = worker.answers
    return {name: answers.combined[name] for name in questions if name not in answers.hidden}


def _in_one_line(error: Exception) -> str:
    return re.sub(r"^(Validation error for question|Invalid choice for) '(\w+)'", r"\2", str(error))
