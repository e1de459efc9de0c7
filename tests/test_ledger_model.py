"""The ledger keeps its word in the model, and the model finds what is planted in it.

`MODEL_EXAMPLES` and `MODEL_SEED`, which may be `random`, make for a longer or another
search.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hooks.commands import Outcome, run
from tests.conftest import ROOT
from tests.ledger_model.planted import PLANTED

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "2000"))
SEED = os.environ.get("MODEL_SEED", "1")

# Two halves suit two cores. PostgreSQL takes several times as long for an example.
RUNS = {
    "SQLite, first half": ("--examples", str(EXAMPLES // 2), "--seed", SEED),
    "SQLite, second half": (
        *("--examples", str(EXAMPLES // 2)),
        *("--seed", SEED if SEED == "random" else str(int(SEED) + 1)),
    ),
    "PostgreSQL": ("--postgresql", "--examples", str(EXAMPLES // 20), "--seed", SEED),
}

PLANTED_EXAMPLES = "2000"
"""Far more than any planted fault has needed."""

Model = Callable[..., Outcome]


def run_model(service: Path, *options: str, folder: Path | None = None) -> Outcome:
    """Run the model on the service's code, or on the copy of it in another folder."""
    return run(
        [str(service / ".venv/bin/python"), "-m", "ledger_model", *options],
        folder or service,
        environment={"PYTHONPATH": str(ROOT / "tests"), "CI": "true"},
        time_limit=3600,
    )


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_the_ledger_keeps_its_word(service: Path, options: tuple[str, ...]) -> None:
    outcome = run_model(service, *options)

    print(outcome.output)  # noqa: T201 - the seed
    assert outcome.ok, outcome.output
    assert "sound:" in outcome.last_line


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_found(service: Path, name: str, tmp_path: Path) -> None:
    planted = PLANTED[name]
    shutil.copytree(service / "app", tmp_path / "app")
    file = tmp_path / "app" / "delivery" / planted.file
    code = file.read_text()
    assert code.count(planted.old) == 1
    file.write_text(code.replace(planted.old, planted.new))

    outcome = run_model(
        service,
        "--no-shrink",
        "--examples",
        PLANTED_EXAMPLES,
        "--seed",
        "1",
        folder=tmp_path,
    )

    assert not outcome.ok
    assert "laws.Broken" in outcome.output, outcome.output
