"""What is enqueued is what the task receives, or it is refused.

`ARGUMENT_EXAMPLES` and `ARGUMENT_SEED` make for a longer or another search.
"""

import os
import shutil
from pathlib import Path

import pytest

from hooks.commands import Outcome, run
from tests.conftest import ROOT

EXAMPLES = os.environ.get("ARGUMENT_EXAMPLES", "2000")
SEED = os.environ.get("ARGUMENT_SEED", "1")

# What makes values arrive as they are, and what stands in its place.
PLANTED = {
    "not compared": (
        "path = _find_change(value, load(adapter, recorded))",
        "path: list[object] | None = None",
    ),
    "types not compared": (
        "if kind is not type(given) and not _is_plainer(kind, given):",
        "if False:",
    ),
    "keys not compared": (
        "*value, *value], [factory, *value, *value.values()]",
        "*value], [factory, *value.values()]",
    ),
    "zeros and zones not compared": ("if kind in _EXACT:", "if False:"),
    "private attributes not compared": (
        'computed | {"__pydantic_fields_set__"}',
        'computed | {"__pydantic_fields_set__", "__pydantic_private__"}',
    ),
    "loaded by the alias alone": (
        "validate_json(recorded, by_alias=True, by_name=True)",
        "validate_json(recorded)",
    ),
    "computed fields recorded": ("round_trip=True", "round_trip=False"),
    "recorded by the name alone": ("with suppress(ValueError):", "if False:"),
}


def search(service: Path, folder: Path) -> Outcome:
    """Hand values to tasks of the service's code in a folder."""
    return run(
        [
            str(service / ".venv/bin/python"),
            *("-W", "ignore", "-m", "argument_kinds"),
            *("--examples", EXAMPLES, "--seed", SEED),
        ],
        folder,
        environment={"PYTHONPATH": str(ROOT / "tests")},
        time_limit=1200,
    )


def test_no_argument_and_no_result_changes(service: Path) -> None:
    outcome = search(service, service)

    print(outcome.output)  # noqa: T201 - what arrived and what was refused
    assert outcome.ok, outcome.output
    assert outcome.last_line.startswith("kept:")


@pytest.mark.parametrize("name", PLANTED)
def test_planted_change_is_found(service: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(service / "app", tmp_path / "app")
    file = tmp_path / "app" / "delivery" / "recording.py"
    old, new = PLANTED[name]
    code = file.read_text()
    assert code.count(old) == 1
    file.write_text(code.replace(old, new))

    outcome = search(service, tmp_path)

    assert not outcome.ok
    assert "ChangedError: " in outcome.output, outcome.output
