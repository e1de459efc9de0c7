"""How code reads: one way for imports, short functions with paragraphs, short lines."""

import ast
import graphlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT

ORDER = ("hooks", "generator", "benchmarks")
"""Our packages; each may import those before it, and none after it."""

LONGEST_LINE = 88
LONGEST_FUNCTION = 45
WORTH_PARAGRAPHS = 12
"""Lines of a function that has more than one step."""

ENOUGH = 0.7
"""The share of them that must separate their steps."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(package: str, root: Path = ROOT) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in python_files(root / package)
    }


def python_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if ".venv" not in path.parts]


def imports(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield what a module imports wherever it does: a module, and a name or nothing."""
    parents = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) + 1 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield from ((module, alias.name) for alias in node.names)


def graph(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return which of these modules each of them imports."""
    return {
        name: {
            target if (target := f"{module}.{imported}") in found else module
            for module, imported in imports(path, name)
            if module in found or f"{module}.{imported}" in found
        }
        for name, path in found.items()
    }


def circle(imported: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the modules of an import circle, if there is one."""
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def wrong_ways(imported: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the imports that do not go from a package to one before it."""
    place = {package: number for number, package in enumerate(ORDER)}
    return [
        f"{name} imports {other}"
        for name, others in imported.items()
        for other in others
        if place[other.split(".")[0]] > place[name.split(".")[0]]
    ]


def functions(text: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]


def length(function: Function) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def has_paragraphs(function: Function, text: str) -> bool:
    """Whether a blank line stands somewhere in the body, below the docstring."""
    has_docstring = ast.get_docstring(function) is not None and len(function.body) > 1
    first = function.body[1 if has_docstring else 0]

    lines = text.splitlines()[first.lineno - 1 : function.end_lineno]
    return any(not line.strip() for line in lines)


def without_paragraphs(folder: Path) -> tuple[list[str], int]:
    """Return which of the longer functions are one block, and how many are longer."""
    one_block, number = [], 0
    for path in python_files(folder):
        text = path.read_text()
        for function in functions(text):
            if length(function) >= WORTH_PARAGRAPHS:
                number += 1
                if not has_paragraphs(function, text):
                    one_block.append(f"{path}:{function.lineno} {function.name}")

    return one_block, number


def expect_paragraphs(folder: Path) -> None:
    one_block, number = without_paragraphs(folder)
    assert len(one_block) <= (1 - ENOUGH) * number, (number, one_block)


def long_functions(folder: Path) -> list[str]:
    return [
        f"{path}:{function.lineno} {function.name} has {length(function)} lines"
        for path in python_files(folder)
        for function in functions(path.read_text())
        if length(function) > LONGEST_FUNCTION
    ]


def long_lines(folder: Path) -> list[str]:
    return [
        f"{path}:{number}"
        for path in python_files(folder)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]


@pytest.mark.parametrize("package", ORDER)
def test_no_import_circle(package: str) -> None:
    assert circle(graph(modules(package))) == []


def test_packages_import_one_way() -> None:
    found = {name: path for each in ORDER for name, path in modules(each).items()}
    imported = graph(found)

    assert any("hooks.commands" in others for others in imported.values())
    assert wrong_ways(imported) == []


@pytest.mark.parametrize("package", ORDER)
def test_functions_have_paragraphs(package: str) -> None:
    expect_paragraphs(ROOT / package)


@pytest.mark.parametrize("package", [*ORDER, "tests"])
def test_functions_are_short(package: str) -> None:
    assert long_functions(ROOT / package) == []


@pytest.mark.parametrize("package", [*ORDER, "tests"])
def test_lines_are_short(package: str) -> None:
    assert long_lines(ROOT / package) == []


def test_a_rendered_project_reads_as_well(project: Path) -> None:
    expect_paragraphs(project / "app")
    assert long_functions(project / "app") == []
    assert long_lines(project) == []


def written(root: Path, **texts: str) -> dict[str, Path]:
    """Write modules of a package `hooks`, and return them."""
    (root / "hooks").mkdir()
    for name, text in texts.items():
        (root / "hooks" / f"{name}.py").write_text(text)
    return modules("hooks", root)


@pytest.mark.parametrize(
    "back",
    [
        "from hooks.one import name\n",
        "from . import one\n",
        "from .one import name\n",
        "def later():\n    import hooks.one\n",
        "if TYPE_CHECKING:\n    from hooks import one\n",
    ],
)
def test_a_circle_is_noticed(back: str, tmp_path: Path) -> None:
    found = written(tmp_path, one="from hooks import other\n", other=back)

    assert set(circle(graph(found))) == {"hooks.one", "hooks.other"}


def test_the_wrong_way_is_noticed() -> None:
    imported = {"hooks.after": ["generator.new"], "generator.new": ["hooks.after"]}

    assert wrong_ways(imported) == ["hooks.after imports generator.new"]


def test_what_reads_badly_is_noticed(tmp_path: Path) -> None:
    step = "    pass\n"
    written(
        tmp_path,
        block=f"def block():\n{step * 11}",
        steps=f'def steps():\n    """Do."""\n\n{step * 6}\n{step * 6}',
        short=f"def short():\n{step * 10}",
        long=f"def long():\n{step}\n{step * 43}",
        wide=f"# {'x' * 87}\n",
    )

    one_block, number = without_paragraphs(tmp_path)
    assert [each.split()[-1] for each in one_block] == ["block"]
    assert number == 3
    assert [each.split()[1] for each in long_functions(tmp_path)] == ["long"]
    assert [Path(each).name for each in long_lines(tmp_path)] == ["wide.py:1"]
