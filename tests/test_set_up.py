"""The command sets itself up from a clone, wherever that is moved or copied to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree that was set up, with what disturbs others."""
    folder = tmp_path_factory.mktemp("set up") / "clone"
    ignored = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    disturbing = {"PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1"}
    assert "celery-redis" in variants(folder, **disturbing)
    return folder


def variants(folder: Path, **environment: str) -> str:
    """Run a command of a clone, and return what it prints."""
    done = subprocess.run(
        [str(folder / "musthappen"), "variants"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copied_clone_is_its_own(clone: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(clone, copied, symlinks=True)
    source = copied / "generator/variants.py"
    source.write_text(source.read_text().replace('"nice-to-have"', '"a-pity"'))
    assert "a-pity" in variants(copied)


def test_an_environment_without_its_python_is_made_again(clone: Path) -> None:
    for python in (clone / ".venv/bin").glob("python*"):
        python.unlink()
    assert "celery-redis" in variants(clone)
