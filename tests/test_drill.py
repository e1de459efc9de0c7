"""A short drill keeps every promise, a defect breaks one, a reference loses tasks."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from generator import types_cache
from generator.drill import page, picture, report
from generator.drill.inside.faults import FAULTS
from generator.drill.references import REFERENCES, Reference
from generator.drill.session import Result
from generator.drill.target import find_targets, prepare
from generator.rendering import render
from generator.variants import VARIANTS
from hooks.commands import run, uv
from hooks.refusal import Refusal
from tests.conftest import ROOT, Command
from tests.pictures import assert_text_is_whole, texts
from tests.test_refusals import assert_refused

SHORT = ("--tasks=100", "--lease=3", "--outage=3", "--json=drill.json")
TIME_LIMIT = 1800
"""Only a hang takes as long as this."""


def drilled(
    outcome: subprocess.CompletedProcess[str], folder: Path
) -> dict[str, dict[str, Any]]:
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

    counted = drilled(outcome, tmp_path)
    assert list(counted) == list(faults)
    for figures in counted.values():
        # How soon a task runs again is judged by the drills that are published: here, a
        # slow machine would miss it.
        assert all("ran again later" in broken for broken in figures["broken"]), figures
        assert figures["answered"] >= 100
        assert figures["recorded"] == figures["succeeded"] >= figures["answered"]
        assert (
            figures["lost"]
            == figures["effects_missing"]
            == figures["effects_doubled"]
            == 0
        )
    assert counted["worker-killed"]["again"]["tasks"] > 0
    assert sum(counted["api-killed-at-commit"]["errors"].values()) > 0
    assert "worker-killed" in texts((tmp_path / "drill.svg").read_text())
    assert "### dramatiq-redis" in (tmp_path / "drills.md").read_text()


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
    interrupted = "running if lane == INTERRUPTED"
    forgotten = "sa.false() if lane == INTERRUPTED"
    replace(defective / "app/delivery/due.py", interrupted, forgotten)

    before = sorted(defective.rglob("*"))

    outcome = musthappen(
        *(
            "drill",
            str(defective),
            "--database=sqlite",
            "--fault=api-killed",
            *SHORT,
            "--lease=1",
        ),
        time_limit=TIME_LIMIT,
    )

    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert drilled(outcome, tmp_path)["api-killed"]["lost"] > 0
    assert "tasks lost" in outcome.stdout
    assert sorted(defective.rglob("*")) == before


def test_background_tasks_are_lost_with_the_api(
    musthappen: Command, tmp_path: Path
) -> None:
    outcome = musthappen(
        *(
            "drill",
            "background-tasks",
            "--fault=api-killed",
            "--tasks=60",
            "--json=drill.json",
        ),
        "--write=drills.md",
        time_limit=TIME_LIMIT,
    )

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    figures = drilled(outcome, tmp_path)["api-killed"]
    assert figures["broken"] == []
    assert figures["answered"] >= 60
    # One at least by each of five kills.
    assert 5 <= figures["lost"] < figures["answered"]
    assert f"**{figures['lost']} lost" in (tmp_path / "drills.md").read_text()


@pytest.mark.parametrize("name", ["postgresql", "celery-redis", "celery-redis-alone"])
def test_the_part_inside_is_typed_and_has_code_for_each_fault(
    name: str, tmp_path: Path
) -> None:
    (target,) = find_targets([name], ROOT)
    prepare(target, tmp_path / "copy", ROOT)

    # To the project's mypy, Celery's decorators have no types.
    code = ["--allow-untyped-decorators", "services"] if target.reference else ["app"]

    types_cache.lend(ROOT, tmp_path / "copy")
    outcome = run(
        uv("run", "--no-sync", "mypy", *code, "musthappen_drill"), tmp_path / "copy"
    )
    assert outcome.ok, outcome.output

    joined = "import musthappen_drill.actions"
    outcome = run(uv("run", "--no-sync", "python", "-c", joined), tmp_path / "copy")
    assert outcome.ok, outcome.output


def test_the_faults_and_references_are_listed(musthappen: Command) -> None:
    listed = musthappen("drill", "--list")

    assert listed.returncode == 0
    assert [name for name in (*FAULTS, *REFERENCES) if name not in listed.stdout] == []


def test_each_variant_has_its_references() -> None:
    brokered = [variant.name for variant in VARIANTS.values() if variant.has_broker]
    alone = [f"{name}-alone{suffix}" for name in brokered for suffix in ("", "-safest")]

    assert list(REFERENCES) == ["background-tasks", *alone]
    assert [target.name for target in find_targets([], ROOT)] == [
        *("postgresql", *brokered),
        *REFERENCES,
    ]


def test_the_faults_of_a_service_without_a_broker() -> None:
    applying = {
        fault.name
        for fault in FAULTS.values()
        if fault.applies("postgresql", "postgresql")
    }
    assert {
        "worker-killed",
        "worker-frozen",
        "database-restarted",
        "everything",
    } < applying
    assert not [
        name for name in applying if re.match("broker|relay|child|strangers", name)
    ]


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_the_faults_of_a_reference(reference: Reference) -> None:
    def applying(database: str) -> list[str]:
        return [
            fault.name
            for fault in FAULTS.values()
            if fault.applies(reference.engine, database, is_reference=True)
        ]

    of_the_api = {"api-killed", "api-killed-at-commit"}
    of_the_rest = {
        "worker-killed",
        "worker-terminated",
        "broker-killed",
        "broker-emptied",
    }

    assert applying("sqlite") == []
    if reference.engine:
        assert of_the_api | of_the_rest | {"broker-silent"} < set(
            applying("postgresql")
        )
    else:
        assert set(applying("postgresql")) == of_the_api


@pytest.mark.parametrize("reference", REFERENCES.values(), ids=REFERENCES)
def test_a_reference_is_planted_whole(reference: Reference, tmp_path: Path) -> None:
    reference.plant(tmp_path)

    planted = {path.stem for path in (tmp_path / "services").iterdir()}
    procfile = (tmp_path / "Procfile").read_text()
    assert planted == {"__init__", "api", "orders"} | (
        {"engine"} if reference.engine else set()
    )
    assert re.findall("(?m)^[a-z]+", procfile) == ["api"] + ["worker"] * bool(
        reference.engine
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["celery-kafka"], "unknown variant celery-kafka"),
        (["nice-to-have"], "promises nothing that a drill could break"),
        (
            ["arq-redis", "--fault=earthquake"],
            "unknown fault earthquake: the faults are worker",
        ),
        (
            ["arq-redis", "--fault=child-killed"],
            "none of these faults applies to arq-redis",
        ),
        (
            ["postgresql", "--fault=relay-killed"],
            "none of these faults applies to postgresql",
        ),
        (
            ["arq-redis", "--fault=broker-full", "--database=sqlite"],
            "none of these faults applies",
        ),
        (["background-tasks", "--fault=worker-killed"], "none of these faults applies"),
        (
            ["celery-redis-alone", "--fault=relay-killed"],
            "none of these faults applies",
        ),
        (["celery-redis-alone", "--database=sqlite"], "none of these faults applies"),
        (
            ["--fault=relay-killed", "--database=sqlite"],
            "none of these faults applies on sqlite",
        ),
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
    render(
        ROOT, tmp_path / "shop", {"project_name": "Shop", "delivery": "nice_to_have"}
    )

    assert_refused(musthappen("drill", "shop"), "its tasks are nice to have")


def test_a_machine_without_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.drill.target.find_server", lambda _: None)

    for name in ("celery-rabbitmq", "celery-rabbitmq-alone"):
        with pytest.raises(Refusal, match="no RabbitMQ: install rabbitmq-server"):
            find_targets([name], ROOT)


FIGURES: dict[str, Any] = {
    **dict.fromkeys(("answered", "recorded", "succeeded"), 5),
    **dict.fromkeys(("lost", "started_again", "effects_missing", "effects_doubled"), 0),
    "broken": [],
    "again": {"tasks": 1, "median": 1.5, "max": 2.5},
    "errors": dict.fromkeys(("before", "during", "after"), 0),
    "p99": {"before": 0.01, "during": 0.02, "after": None},
}


def result(target: str, fault: str, **figures: object) -> Result:
    settings = {
        "database": "postgresql",
        "tasks": 60,
        "rate": 40.0,
        "lease": 10.0,
        "seed": 1,
    }
    return Result(
        *(
            target,
            fault,
            {**FIGURES, **figures},
            settings,
            {},
            "a machine",
            "2026-01-02",
        ),
        is_reference=target in REFERENCES,
    )


def test_results_can_be_shown_again(tmp_path: Path) -> None:
    broken = result("arq-redis", "poison", failed=0, lost=2, broken=["2 tasks lost"])
    path = tmp_path / "drill.json"

    report.dump([broken], path)

    assert report.load([path]) == [broken]
    assert "✗ 2 tasks lost" in texts(picture.draw([broken]))
    page.write([broken], tmp_path / "drills.md")
    written = (tmp_path / "drills.md").read_text()
    assert "**2 tasks lost**" in written
    assert "1 broke a promise" in written
    assert "without a ledger" not in written


def test_references_are_shown_beside_ours(tmp_path: Path) -> None:
    results = [
        result("celery-redis", "worker-killed", failed=0),
        result(
            *("celery-redis-alone", "worker-killed"),
            lost=3,
            left_in_broker=2,
            effects_doubled=1,
            stranded=0,
        ),
        result(
            "celery-redis-alone-safest", "worker-killed", left_in_broker=0, stranded=0
        ),
        result("background-tasks", "api-killed", lost=0, left_in_broker=0, stranded=4),
    ]

    page.write(results, tmp_path / "drills.md")

    rows = (tmp_path / "drills.md").read_text().splitlines()
    lost = "**3 lost, 1 doubled, 2 left in the broker** (5 answered)"
    none = "0 lost (5 answered)"
    assert f"| worker-killed | celery-redis | {none} | {none} | {lost} |" in rows
    stranded = "**0 lost, 4 stranded** (5 answered)"
    assert f"| api-killed | background-tasks | - | - | {stranded} |" in rows
    assert any("60 tasks a run, 40 a second" in row for row in rows)
    assert [row for row in rows if row.startswith("### ")] == [
        *("### celery-redis", "### background-tasks"),
        *("### celery-redis-alone", "### celery-redis-alone-safest"),
    ]
    shown = texts((tmp_path / "drills.svg").read_text())
    verdicts = {"✓ 5 kept", "✗ 3 lost", "1 doubled", "✓ none lost", "✗ 4 stranded"}
    assert verdicts <= set(shown)
    assert shown.index(picture.OURS) < shown.index(picture.REFERENCES)
    assert shown.count("celery-redis") == 3
    assert shown.count("alone, defaults") == shown.count("alone, safest") == 1
    judged = [report.verdict(each).plain for each in results]
    assert judged[:3] == ["kept", "3 lost, 1 doubled, 2 left in the broker", "0 lost"]


def test_the_page_says_first_what_was_found(tmp_path: Path) -> None:
    results = [
        result("celery-redis", "worker-killed"),
        result("celery-redis", "api-killed", lost=1, broken=["1 tasks lost"]),
        result("celery-redis-alone", "api-killed", lost=1200, stranded=2),
        result("celery-redis-alone-safest", "api-killed"),
    ]

    page.write(results, tmp_path / "drills.md")

    first = (tmp_path / "drills.md").read_text().partition("![")[0]
    assert "**In 2 runs of generated projects, 1 broke a promise.** In 1 of 2" in first
    assert "| with the ledger | 2 | 10 | 1 | 0 | 0 |" in first
    defaults = "| without: Celery on Redis, at its defaults | 1 | 5 | 1,200 | 0 | 2 |"
    assert defaults in first


def test_the_committed_page_is_what_the_committed_results_yield(tmp_path: Path) -> None:
    docs = ROOT / "docs"
    page.write(report.load([docs / "drills.json"]), tmp_path / "drills.md")

    written = (tmp_path / "drills.md").read_text()
    assert written == (docs / "drills.md").read_text()
    drawn = (tmp_path / "drills.svg").read_text()
    assert texts(drawn) == texts((docs / "drills.svg").read_text())


@pytest.mark.parametrize(
    "results",
    [
        report.load([ROOT / "docs/drills.json"]),
        [result("x", "poison", broken=["an interrupted task ran again after 17.3 s"])],
        [
            Result(
                *("a-project-of-one's-own", "everything"),
                {"broken": ["the drill failed"]},
                {"database": "sqlite"},
            )
        ],
        [
            result(
                *("celery-rabbitmq-alone-safest", "api-killed"),
                lost=10000,
                effects_doubled=2000,
                stranded=3000,
            )
        ],
    ],
    ids=["committed", "broken", "failed", "damaged"],
)
def test_the_picture_shows_all_of_its_text(results: list[Result]) -> None:
    figure = picture.paint(results)

    assert_text_is_whole(figure)
    assert picture.draw(results) == picture.draw(results)


def test_a_drill_without_pictures_needs_no_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    page.check(tmp_path / "drill.json", None)
    with pytest.raises(Refusal, match="pictures need matplotlib"):
        page.check(None, tmp_path / "drill.svg")


def test_the_verdict_does_not_need_its_colour() -> None:
    results = report.load([ROOT / "docs/drills.json"])
    figure = picture.paint(results)

    said = [
        (text.get_text()[0], text.get_color())
        for text in figure.axes[0].texts
        if text.get_text()[0] in "✓✗" and text.get_text() != picture.LEGEND
    ]
    wrong = [each for each in results if each.broken or report.damages(each)]
    assert len([sign for sign, _ in said if sign == "✗"]) == len(wrong)
    assert len(said) == len(results)
    assert len(set(said)) == 2
