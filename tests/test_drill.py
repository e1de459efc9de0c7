"""A short drill keeps every promise, a defect breaks one, and bad input is refused in one line."""

import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from generator.commands import run, uv
from generator.drill import page, picture, report
from generator.drill.faults import FAULTS
from generator.drill.session import Result
from generator.drill.target import find_targets, prepare
from generator.refusal import Refusal
from generator.rendering import render
from generator.variants import VARIANTS
from tests.conftest import ROOT, Command
from tests.test_refusals import assert_refused

SHORT = ("--tasks=100", "--lease=3", "--outage=3", "--json=drill.json")
TIME_LIMIT = 500


def drilled(outcome: subprocess.CompletedProcess[str], folder: Path) -> dict[str, dict[str, Any]]:
    assert outcome.returncode in {0, 1}, outcome.stdout + outcome.stderr
    results = json.loads((folder / "drill.json").read_text())
    return {result["fault"]: result["figures"] for result in results}


def test_a_short_drill(musthappen: Command, tmp_path: Path) -> None:
    faults = ("worker-killed", "broker-silent", "api-killed-at-commit")
    outcome = musthappen(
        *("drill", "dramatiq-redis", *SHORT, "--svg=drill.svg", "--write=drills.md"),
        "--lease=10",  # A worker on a busy machine takes seconds to start.
        *(f"--fault={fault}" for fault in faults),
        time_limit=TIME_LIMIT,
    )

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    counted = drilled(outcome, tmp_path)
    assert list(counted) == list(faults)
    for figures in counted.values():
        assert figures["answered"] >= 100
        assert figures["recorded"] == figures["succeeded"] >= figures["answered"]
        assert figures["lost"] == figures["effects_missing"] == figures["effects_doubled"] == 0
    assert counted["worker-killed"]["again"]["tasks"] > 0
    assert sum(counted["api-killed-at-commit"]["errors"].values()) > 0
    ET.parse(tmp_path / "drill.svg")  # noqa: S314 - our own
    assert "## dramatiq-redis" in (tmp_path / "drills.md").read_text()


@pytest.fixture
def defective(tmp_path: Path) -> Path:
    """Return a project, to be broken."""
    project = tmp_path / "Broken Service"
    render(ROOT, project, {"project_name": "Shop", **VARIANTS["arq-redis"].answers})
    return project


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_ledger_that_forgets_interrupted_tasks(
    defective: Path, musthappen: Command, tmp_path: Path
) -> None:
    due = "select(t.id).where(t.wake_at <= from_now())"
    forgetful = f"{due}.where(t.status == Status.QUEUED)"
    replace(defective / "app/delivery/ledger.py", due, forgetful)

    before = sorted(defective.rglob("*"))

    outcome = musthappen(
        *("drill", str(defective), "--database=sqlite", "--fault=api-killed", *SHORT, "--lease=1"),
        time_limit=TIME_LIMIT,
    )

    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert drilled(outcome, tmp_path)["api-killed"]["lost"] > 0
    assert "tasks lost" in outcome.stdout
    assert sorted(defective.rglob("*")) == before


def test_the_part_inside_is_typed(tmp_path: Path) -> None:
    (target,) = find_targets(["celery-redis"], ROOT)
    prepare(target, tmp_path / "copy", ROOT)

    outcome = run(uv("run", "--no-sync", "mypy", "app", "musthappen_drill"), tmp_path / "copy")

    assert outcome.ok, outcome.output


def test_each_fault_has_its_code() -> None:
    code = (ROOT / "generator/drill/inside/faults.py").read_text()
    assert [name for name in FAULTS if f'"{name}": Fault(' not in code] == []


def test_the_faults_are_listed(musthappen: Command) -> None:
    listed = musthappen("drill", "--list")

    assert listed.returncode == 0
    assert [name for name in FAULTS if name not in listed.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["celery-kafka"], "unknown variant celery-kafka"),
        (["nice-to-have"], "promises nothing that a drill could break"),
        (["arq-redis", "--fault=earthquake"], "unknown fault earthquake: the faults are worker"),
        (["arq-redis", "--fault=child-killed"], "none of these faults applies to arq-redis"),
        (["arq-redis", "--fault=broker-full", "--database=sqlite"], "none of these faults applies"),
        (["."], "is no generated project"),
        (["arq-redis", "--json=nowhere/drill.json"], "nowhere"),
        (["arq-redis", "--template=."], "holds no template"),
        (["--read=nowhere.json"], "holds no results"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(arguments: list[str], reason: str, musthappen: Command) -> None:
    assert_refused(musthappen("drill", *arguments), reason)


def test_a_nice_to_have_project(musthappen: Command, tmp_path: Path) -> None:
    render(ROOT, tmp_path / "shop", {"project_name": "Shop", "delivery": "nice_to_have"})

    assert_refused(musthappen("drill", "shop"), "its tasks are nice to have")


def test_a_machine_without_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.drill.target.find_rabbitmq", lambda: None)

    with pytest.raises(Refusal, match="no RabbitMQ: install rabbitmq-server"):
        find_targets(["celery-rabbitmq"], ROOT)


def test_results_can_be_shown_again(tmp_path: Path) -> None:
    counted = {
        **dict.fromkeys(("answered", "recorded", "succeeded"), 5),
        **dict.fromkeys(("failed", "started_again", "effects_missing", "effects_doubled"), 0),
        "lost": 2,
        "broken": ["2 tasks lost"],
        "again": {"tasks": 1, "median": 1.5, "max": 2.5},
        "errors": dict.fromkeys(("before", "during", "after"), 0),
        "p99": {"before": 0.01, "during": 0.02, "after": None},
    }
    settings = {"database": "postgresql", "lease": 10.0, "seed": 1}
    result = Result("arq-redis", "poison", counted, settings, {}, "a machine", "2026-01-02")
    path = tmp_path / "drill.json"

    report.dump([result], path)

    assert report.load([path]) == [result]
    assert ">2 tasks lost</text>" in picture.draw([result])
    page.write([result], tmp_path / "drills.md")
    assert "**2 tasks lost**" in (tmp_path / "drills.md").read_text()
