"""Prepare what is drilled: a new variant or reference, or the copy of a project."""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from generator.drill.references import REFERENCES, Reference
from generator.rendering import ANSWERS, read_questions, render
from generator.services import read_procfile
from generator.variants import VARIANTS, find_variants
from hooks.commands import run, uv
from hooks.refusal import Refusal

PACKAGE = "musthappen_drill"
"""The name of `inside` in the copy."""

_INSIDE = Path(__file__).parent / "inside"
_SBIN = "/usr/sbin:/usr/lib/rabbitmq/bin"
_NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".*_cache",
    "*.db",
    "*.db-*",
    "*.log",
)


@dataclass(frozen=True)
class Target:
    """A project to drill, and how it was answered; or what to compare it with."""

    name: str
    engine: str
    broker: str
    """Empty if it has none."""
    answers: dict[str, str]
    project: Path | None = None
    """Where it is; a variant is rendered."""
    reference: Reference | None = None
    """What runs there in its stead, without a ledger."""


def find_targets(names: list[str], template: Path) -> list[Target]:
    """Return what has these names, or all must-happen variants and all references.

    Raises:
        Refusal: A name is no variant, no reference, and not the path of a must-happen
            project.
    """
    variants = [variant.name for variant in VARIANTS.values() if variant.must_happen]
    names = names or [*variants, *REFERENCES]
    return [_find_target(name, template) for name in dict.fromkeys(names)]


def prepare(target: Target, folder: Path, template: Path) -> None:
    """Make the copy in `folder`, plant the drill in it, and install it.

    Raises:
        Refusal: The project is not one that can be drilled, or cannot be installed.
    """
    if target.project is None:
        render(template, folder, {"project_name": "Order Service", **target.answers})
    else:
        shutil.copytree(target.project, folder, ignore=_NOT_COPIED)
        _forget_servers(folder / ".env")
        # Whatever has become of the project's own tests: this starts the servers.
        fresh = folder.with_name(f"{folder.name}-fresh")
        render(template, fresh, target.answers)
        shutil.rmtree(folder / "tests", ignore_errors=True)
        shutil.copytree(fresh / "tests", folder / "tests")

    _plant(target, folder)

    outcome = run(uv("sync", "--quiet", "--python", sys.executable), folder)
    if not outcome.ok:
        raise Refusal(f"{target.name} cannot be installed: {outcome.last_line}")


def _find_target(name: str, template: Path) -> Target:
    if name in REFERENCES:
        return _reference_target(REFERENCES[name])

    folder = Path(name)
    if name in VARIANTS or not folder.exists():
        (variant,) = find_variants([name])
        if not variant.must_happen:
            raise Refusal(f"{name} promises nothing that a drill could break")
        return _target(name, dict(variant.answers))

    try:
        recorded = yaml.safe_load((folder / ANSWERS).read_text())
    except (OSError, yaml.YAMLError):
        raise Refusal(f"{name} is no generated project: it has no {ANSWERS}") from None

    questions = read_questions(template)
    answers = {key: value for key, value in recorded.items() if key in questions}
    if answers.get("delivery") != "must_happen":
        raise Refusal(
            f"{name} promises nothing that a drill could break:"
            " its tasks are nice to have"
        )

    project = folder.resolve()
    return _target(project.name, answers, project)


def _target(name: str, answers: dict[str, str], project: Path | None = None) -> Target:
    broker = answers.get("broker", "")
    _check_broker(name, broker)
    return Target(name, answers["engine"], broker, answers, project)


def _reference_target(reference: Reference) -> Target:
    _check_broker(reference.name, reference.broker)
    answers = dict(VARIANTS[reference.variant].answers)
    return Target(
        reference.name, reference.engine, reference.broker, answers, reference=reference
    )


def _check_broker(name: str, broker: str) -> None:
    if broker == "rabbitmq" and find_server("rabbitmq-server") is None:
        # If need be, the project's development dependencies bring the other servers.
        raise Refusal(f"{name}: no RabbitMQ: install rabbitmq-server")


def find_server(name: str) -> str | None:
    """Return a server's program, which Debian may keep off the PATH of most users."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def _plant(target: Target, folder: Path) -> None:
    inside = folder / PACKAGE
    shutil.copytree(_INSIDE, inside, ignore=shutil.ignore_patterns("__pycache__"))
    if target.reference:
        target.reference.plant(folder)
        planted = {
            "points": "services/drill_points",
            "reference_api": "services/drill_api",
        }
    else:
        _run_drill_api(target, folder)
        planted = {
            "points": "app/drill_points",
            "tasks": "app/tasks/drill",
            "api": "app/drill_api",
        }

    for name, place in planted.items():
        shutil.move(inside / f"planted/{name}.py", folder / f"{place}.py")
    shutil.rmtree(inside / "planted")


def _run_drill_api(target: Target, folder: Path) -> None:
    commands = read_procfile(folder)
    if "app.main:app" not in commands.get("api", "") or "worker" not in commands:
        raise Refusal(
            f"{target.name}: its Procfile starts no app.main:app, or no worker"
        )

    procfile = folder / "Procfile"
    procfile.write_text(
        procfile.read_text().replace("app.main:app", "app.drill_api:app")
    )


def _forget_servers(settings: Path) -> None:
    """Take the user's own database and broker out of the copied settings."""
    if settings.is_file():
        text = settings.read_text()
        settings.write_text(
            re.sub(r"(?mi)^\s*(export\s+)?(DATABASE|BROKER)_URL\b.*$", "", text)
        )
