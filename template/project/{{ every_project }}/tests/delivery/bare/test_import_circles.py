"""Modules of the service import each other one way only, and never in a circle.

Every import counts, also one in a function or for type checkers alone: there, it would
only hide a circle.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.delivery.support.processes import ROOT


def imported_names(path: Path, package: str) -> Iterator[str]:
    """Yield the full name of each thing that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def imports_within(folder: Path) -> dict[str, set[str]]:
    """Return the modules of a package, each with those of them that it imports."""
    paths = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        paths[".".join(parts).removesuffix(".__init__")] = path

    imports: dict[str, set[str]] = {}
    for module, path in paths.items():
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        names = set(imported_names(path, package))
        # A name that is no module is one in a module.
        found = {name if name in paths else name.rpartition(".")[0] for name in names}
        imports[module] = found & paths.keys() - {module}
    return imports


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = imports_within(ROOT / "app")
    assert "app.delivery.nice_to_have" in imports["app.delivery.enqueue"]
    assert find_circle(imports) == []


@pytest.mark.parametrize(
    "hidden",
    [
        "import app.second",
        "from app import second",
        "from app.second import thing",
        "from .second import thing",
        "def use():\n    from app import second",
        "if TYPE_CHECKING:\n    from app.second import thing",
    ],
)
def test_a_circle_is_noticed(hidden: str, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/first.py").write_text(hidden)
    (tmp_path / "app/second.py").write_text("from app import first")
    assert set(find_circle(imports_within(tmp_path / "app"))) == {
        "app.first",
        "app.second",
    }


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("app.delivery", "app.tasks"),
        ("app.delivery", "app.api"),
        ("app.delivery", "app.main"),
        ("app.tasks", "app.api"),
        ("app.tasks", "app.main"),
        ("app.api", "app.main"),
    ],
)
def test_imports_run_one_way(lower: str, upper: str) -> None:
    def is_in(module: str, package: str) -> bool:
        return module == package or module.startswith(f"{package}.")

    assert not [
        f"{module} imports {other}"
        for module, others in imports_within(ROOT / "app").items()
        for other in others
        if is_in(module, lower) and is_in(other, upper)
    ]
