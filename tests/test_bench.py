"""The command `bench` still measures: every benchmark, in the small and on one variant.

What it measured is not looked at: how fast this machine is today proves nothing.
"""

import json
from pathlib import Path

import pytest

from benchmarks import figures, page
from benchmarks.command import BENCHMARKS
from benchmarks.figures import Goal, Result
from tests.conftest import Command


def test_every_benchmark_measures_and_the_page_is_written(
    musthappen: Command, tmp_path: Path
) -> None:
    options = ["--quick", "--repeat", "1", "--variant", "arq-redis"]

    done = musthappen("bench", *options, "--json", "kept.json", "--write", "page.md")

    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert list(kept) == list(BENCHMARKS)
    for name, result in kept.items():
        assert result["rows"], name
        assert all(
            figure >= 0 for row in result["rows"] for figure in row["figures"]
        ), name
    written = (tmp_path / "page.md").read_text()
    assert all(
        row["what"] in written for result in kept.values() for row in result["rows"]
    )
    assert (tmp_path / "performance-end-to-end.svg").read_text().startswith("<svg")


def test_an_unknown_benchmark_is_refused(musthappen: Command) -> None:
    done = musthappen("bench", "speed")

    assert done.returncode == 2
    assert "unknown benchmark speed: there are end_to_end" in done.stderr


def test_ratios_are_taken_repetition_by_repetition() -> None:
    row = figures.Row("ours", "theirs", "ms", [10, 40, 30], [10, 20, 10])

    assert row.ratio == figures.Spread(2, 1, 3)


@pytest.mark.parametrize(
    ("goal", "holds"),
    [
        (Goal(at_most=2), True),
        (Goal(at_most=1.9), False),
        (Goal(at_least=20, of_figure=True), True),
        (None, None),
    ],
)
def test_a_goal_is_of_the_median_ratio_or_of_the_figure(
    goal: Goal | None, holds: bool
) -> None:
    row = figures.Row("ours", "theirs", "ms", [10, 40, 30], [10, 20, 10], goal)

    assert row.holds is holds


def test_results_are_kept_beside_those_of_earlier_runs(tmp_path: Path) -> None:
    result = Result("generation", notes=["a note"], load_before=1)
    result.add("a variant", "a template", "s", [1.5], [1.0], Goal(at_most=2))

    figures.save(tmp_path / "kept.json", {"generation": result})

    assert figures.load(tmp_path / "kept.json") == {"generation": result}
    page.write(
        tmp_path / "page.md", list(figures.load(tmp_path / "kept.json").values())
    )
    assert (
        "| at most twice Copier's floor | **yes** |"
        in (tmp_path / "page.md").read_text()
    )
