"""No workflow, ours or a project's, gives more away than it has to."""

import sys
from pathlib import Path

from hooks.commands import run

ROOT = Path(__file__).parent.parent


def test_our_workflows_are_safe() -> None:
    audit(ROOT / ".github")


def test_the_workflows_of_a_project_are_safe(project: Path) -> None:
    audit(project / ".github")


def audit(folder: Path) -> None:
    """Let zizmor look for what docs.zizmor.sh/audits lists."""
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    outcome = run([zizmor, "--offline", "--no-progress", str(folder)], ROOT)
    assert outcome.ok, outcome.output
