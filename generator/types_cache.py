"""Lend a generated project what mypy knows of the same packages from another one.

From nothing, strict mypy takes far longer over the packages than over the project. It
trusts only what belongs to a file of the same content, wherever that lies, so it judges
the project as before.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = ".mypy_cache"
"""Where mypy keeps its cache in a project, and we ours in a clone."""


def lend(clone: Path, project: Path) -> None:
    """Give a project the cache of those before it, if there were any."""
    with _locked(clone) as cache:
        if cache.exists():
            shutil.copytree(cache, project / NAME, dirs_exist_ok=True)


def keep(clone: Path, project: Path) -> None:
    """Keep a project's cache for those after it."""
    with _locked(clone) as cache:
        fresh = cache.with_suffix(".fresh")
        shutil.copytree(project / NAME, fresh, dirs_exist_ok=True)
        shutil.rmtree(cache, ignore_errors=True)
        fresh.rename(cache)


@contextmanager
def _locked(clone: Path) -> Iterator[Path]:
    """Yield the folder of the kept cache, which no other process touches meanwhile."""
    folder = clone / NAME
    folder.mkdir(exist_ok=True)
    with (folder / "projects.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / "projects"
