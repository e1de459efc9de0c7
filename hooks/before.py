"""Before a render: whatever would spoil it is refused while nothing has been written."""

import shutil
from pathlib import Path

from generator.refusal import Refusal


def check_tools() -> None:
    """Refuse to start without git.

    Raises:
        Refusal: git is not on the PATH.
    """
    if shutil.which("git") is None:
        raise Refusal("git is not on the PATH: install it first")


def check_target(target: Path, template: Path) -> None:
    """Refuse a target that would overwrite something or end up inside the template.

    Raises:
        Refusal: The target is not an empty or absent folder, or is part of the template.
    """
    if target.exists() and not target.is_dir():
        raise Refusal(f"{target} is a file: choose a folder that does not exist yet")
    if target.is_dir() and any(target.iterdir()):
        raise Refusal(f"{target} is not empty: choose a folder that does not exist yet")
    if target.resolve().is_relative_to(template):
        raise Refusal(f"{target} is inside the template {template}: choose a folder outside it")
