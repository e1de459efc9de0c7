"""Each variant passes its own linters, types, hooks and tests; a defect is noticed."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from generator.variants import Variant
from tests.conftest import ROOT, Command
from tests.releases import EVERY_PROJECT


def test_a_variant_passes(
    variant: Variant,
    musthappen: Command,
    record_property: Callable[[str, object], None],
) -> None:
    checked = musthappen("check", variant.name, time_limit=3600)

    assert checked.returncode == 0, checked.stdout[-20_000:] + checked.stderr
    tests = re.findall(
        rf"^{variant.name} +(bare|servers) .* (\d+) tests ok$",
        checked.stdout,
        re.MULTILINE,
    )
    assert [tier for tier, _ in tests] == (
        ["bare", "servers"] if variant.must_happen else ["bare"]
    )
    counts = ", ".join(f"{count} {tier}" for tier, count in tests)
    record_property("tests of a variant", f"{variant.name:<18} {counts}")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a copy of the template, to be broken."""
    copy = tmp_path / "template"
    shutil.copytree(ROOT / "template", copy / "template")
    shutil.copy(ROOT / "copier.yml", copy)
    return copy


@pytest.mark.parametrize(
    ("step", "path", "defect"),
    [
        ("lint", "app/defect.py", '"""Imports what it does not use."""\n\nimport os\n'),
        ("format", "app/defect.py", "'''Is quoted otherwise.'''\n"),
        ("types", "app/defect.py", '"""Is no number."""\n\nnumber: int = "one"\n'),
        ("pre-commit", "app/defect.rej", "a rejected hunk\n"),
        (
            "bare",
            "tests/delivery/bare/test_defect.py",
            "def test_defect() -> None:\n    assert False\n",
        ),
        (
            "bare",
            "tests/delivery/bare/test_defect.py",
            "import pytest\n\npytest.skip('', allow_module_level=True)\n",
        ),
        ("render", "app/defect.py.jinja", "{{ no_such_answer }}\n"),
    ],
    ids=[
        "lint",
        "format",
        "types",
        "hooks",
        "failing test",
        "skipped test",
        "typing slip",
    ],
)
def test_a_defect_is_noticed(
    step: str, path: str, defect: str, template: Path, musthappen: Command
) -> None:
    defective = template / EVERY_PROJECT / path
    if step == "bare":  # Alone, it shows as much in a fraction of the time.
        shutil.rmtree(defective.parent)
        defective.parent.mkdir()
    defective.write_text(defect)
    arguments = [] if step == "render" else [f"--step={step}"]

    checked = musthappen("check", "nice-to-have", f"--template={template}", *arguments)

    assert checked.returncode == 1
    assert f"failed: {step}" in checked.stdout
    if "assert False" in defect:
        assert re.search(r"bare .* 1 of \d+ tests failed", checked.stdout)
    assert checked.stderr == ""


def test_what_mypy_knows_of_another_project_hides_no_defect(
    template: Path, musthappen: Command
) -> None:
    arguments = ("check", "nice-to-have", f"--template={template}", "--step=types")
    assert musthappen(*arguments).returncode == 0
    assert (template / ".mypy_cache/projects").is_dir()

    module = template / EVERY_PROJECT / "app/tasks/signups.py"
    module.write_text(f'{module.read_text()}\nnumber: int = "one"\n')
    checked = musthappen(*arguments)

    assert checked.returncode == 1
    assert "app/tasks/signups.py" in checked.stdout


def test_a_check_can_keep_what_it_rendered(musthappen: Command, tmp_path: Path) -> None:
    checked = musthappen("check", "nice-to-have", "--step=lint", "--keep=kept")

    assert checked.returncode == 0, checked.stdout
    assert (tmp_path / "kept/nice-to-have/pyproject.toml").exists()
    assert musthappen("check", "nice-to-have", "--keep=kept").returncode == 2
