"""Writes the page."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Result


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the page."""
