"""Run every benchmark in the small, and check the pages that show what was measured.

How fast this machine is today proves nothing: what was measured is not looked at.
"""

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

from benchmarks import figures, page
from benchmarks.command import BENCHMARKS
from benchmarks.figures import Goal, Result, short
from benchmarks.held_snapshot import Phases
from benchmarks.picture import paint
from generator import drawing
from hooks.refusal import Refusal
from tests.conftest import ROOT, Command
from tests.pictures import assert_text_is_whole, texts

COMMITTED = figures.load(ROOT / "docs/performance.json")
FIRST_SCREEN = 60  # Lines.
# What users of a project do not pay for is on no first page.
NOT_PAID_FOR = {"generation", "tests"}
NUMBER = r"\d[\d,.]*"


def test_every_benchmark_measures_and_the_page_is_written(
    musthappen: Command, tmp_path: Path
) -> None:
    options = ["--quick", "--repeat", "1"]
    options += ["--variant", "arq-redis", "--variant", "postgresql"]

    done = musthappen("bench", *options, "--json", "kept.json", "--write", "page.md")

    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert list(kept) == list(BENCHMARKS)
    for name, result in kept.items():
        assert result["rows"], name
        assert all(
            figure >= 0 for row in result["rows"] for figure in row["figures"]
        ), name
    written = (tmp_path / "page-figures.md").read_text()
    assert all(
        row["what"] in written for result in kept.values() for row in result["rows"]
    )
    results = figures.load(tmp_path / "kept.json")
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.highlights(results[name]) or name in NOT_PAID_FOR, name
        picture = tmp_path / f"page-{name.replace('_', '-')}.svg"
        assert texts(picture.read_text()), name


def test_an_unknown_benchmark_is_refused(musthappen: Command) -> None:
    done = musthappen("bench", "speed")

    assert done.returncode == 2
    assert "unknown benchmark speed: there are end_to_end" in done.stderr


def test_an_unknown_revision_is_refused(musthappen: Command) -> None:
    done = musthappen("bench", "start", "--quick", "--against", "no-such-revision")

    assert done.returncode == 2
    assert "the template has no revision no-such-revision" in done.stderr


@pytest.mark.parametrize(("slow_until", "seconds"), [(0, 0), (9, 10), (60, 60)])
def test_a_p99_is_back_after_the_last_time_that_was_slower_than_ever_before(
    slow_until: int, seconds: int
) -> None:
    released = 70
    travels = [
        (at, at + (1 if released <= at < released + slow_until else 0.1))
        for at in range(130)
    ]

    phases = Phases(travels, [0, 60, released, 130])

    assert phases.seconds_until_back() == seconds
    assert phases.started(0) == pytest.approx(1, abs=0.02)


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
    page.write(tmp_path / "page.md", BENCHMARKS.values(), {"generation": result})
    goals = (tmp_path / "page-figures.md").read_text()
    assert "| at most twice Copier's floor | **yes** |" in goals


def write(folder: Path, results: dict[str, Result]) -> tuple[str, str]:
    """Return the page and that of all figures."""
    path = folder / "performance.md"
    page.write(path, BENCHMARKS.values(), results)
    return path.read_text(), path.with_stem("performance-figures").read_text()


def rows(written: str) -> list[str]:
    table = [line for line in written.splitlines() if line.startswith("| ")]
    return table[2:]


@pytest.mark.parametrize("name", COMMITTED)
def test_a_benchmark_owns_what_the_pages_show_of_it(name: str, tmp_path: Path) -> None:
    benchmark, result = BENCHMARKS[name], COMMITTED[name]
    first, behind = write(tmp_path, {name: result})

    shown = [benchmark.title, benchmark.introduction]
    shown += [
        requirement.text
        for requirement in benchmark.requirements
        if requirement.judge(result.rows)
    ]
    layout = Path(page.__file__).read_text()
    assert [text for text in shown if text not in behind] == []
    assert [text for text in shown if text in layout] == []
    assert name not in layout
    assert len(rows(first)) == len(benchmark.highlights(result))


def test_the_first_page_is_one_screen() -> None:
    written = (ROOT / "docs/performance.md").read_text()

    assert len(written.splitlines()) <= FIRST_SCREEN
    assert 10 <= len(rows(written)) <= 15
    assert "](performance-figures.md)" in written
    pictures = re.findall(r"!\[.+\]\((.+)\)", written)
    assert len(pictures) == len(COMMITTED)
    assert all((ROOT / "docs" / picture).exists() for picture in pictures)


def test_the_committed_pages_are_what_the_committed_figures_yield(
    tmp_path: Path,
) -> None:
    write(tmp_path, COMMITTED)

    for path in sorted(tmp_path.iterdir()):
        committed, written = (ROOT / "docs" / path.name).read_text(), path.read_text()
        if path.suffix == ".svg":  # Outlines may differ with matplotlib's version.
            assert texts(committed) == texts(written), path.name
        else:
            assert committed == written, path.name


def test_each_number_on_the_first_page_is_in_the_figures(tmp_path: Path) -> None:
    first, _ = write(tmp_path, COMMITTED)
    every = [row for result in COMMITTED.values() for row in result.rows]
    spreads = [spread for row in every for spread in (row.figure, row.ratio)]
    spreads += [row.reference for row in every]
    known = {
        short(value)
        for spread in spreads
        if spread
        for value in (spread.median, spread.low, spread.high)
    }
    named = {
        number
        for row in every
        for name in (row.what, row.against)
        for number in re.findall(NUMBER, name)
    }

    for row in rows(first):
        what, *cells = row.removeprefix("| ").split(" | ")
        assert set(re.findall(NUMBER, what)) <= named, row
        assert set(re.findall(NUMBER, " ".join(cells))) <= known | named, row


def test_other_figures_make_other_pages(tmp_path: Path) -> None:
    first, behind = write(tmp_path, COMMITTED)
    svgs = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    tampered = deepcopy(COMMITTED)
    for result in tampered.values():
        for row in result.rows:
            row.figures = [1.7 * value for value in row.figures]
            row.references = [1.3 * value for value in row.references]

    other_first, other_behind = write(tmp_path, tampered)

    assert set(rows(first)) & set(rows(other_first)) == set()
    figure_rows = len([row for result in COMMITTED.values() for row in result.rows])
    changed = set(rows(other_behind)) - set(rows(behind))
    assert len(changed) >= figure_rows
    assert [n for n, svg in svgs.items() if (tmp_path / n).read_text() == svg] == []


@pytest.mark.parametrize("name", COMMITTED)
def test_a_picture_shows_all_of_its_text(name: str) -> None:
    panels = BENCHMARKS[name].picture(COMMITTED[name])

    svg = drawing.svg(paint(panels))

    shown = texts(svg)
    for panel in panels:
        groups = panel.groups.values()
        series = {name for group in groups for name in group}
        assert {panel.title, *panel.groups, *series} <= set(shown)
    assert svg == drawing.svg(paint(panels))
    assert_text_is_whole(paint(panels))


def test_only_pictures_need_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, benchmarks.command, generator.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "benchmarks.picture" in loaded
    assert "matplotlib" not in loaded

    drawing.check()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Refusal, match="pictures need matplotlib: install it"):
        drawing.check()
