"""Draw what became of the tasks, by target and fault, in words and symbols."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from generator.drawing import DARK, GREY, new_figure, styled, svg
from generator.drill.inside.faults import FAULTS
from generator.drill.report import damages, heading, latest
from generator.drill.session import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "With the ledger"
REFERENCES = "The same engines without a ledger"
LEGEND = "✓ nothing was lost or wrong    ✗ lost or wrong    - not done to it"

# Colours that colour-blind readers tell apart, one pale and one dark on paper too.
_KEPT, _LOST, _NOT_DONE = "#d9ecf7", "#b34700", "#f3f3f3"
_LEFT, _CELL, _ROW, _TITLE, _MARGIN = 150, 112, 34, 62, 10
"""Pixels: the faults' names, a cell's width and height, a block's head, the edge."""
_CHARACTERS = 16
"""How many of them a cell has room for."""


def draw(results: Sequence[Result]) -> str:
    """Return an SVG picture; where a pair was run twice, the later run counts."""
    return svg(paint(results))


def paint(results: Sequence[Result]) -> "Figure":
    """Return a figure with a block of our runs, and one of the references' below."""
    runs = latest(results)
    blocks = {
        OURS: [result for result in runs if not result.is_reference],
        REFERENCES: [result for result in runs if result.is_reference],
    }
    shown = {title: block for title, block in blocks.items() if block}

    columns = max(len({heading(r) for r in block}) for block in shown.values())
    rows = sum(len({r.fault for r in block}) for block in shown.values())
    width = _LEFT + _CELL * max(columns, 3) + _MARGIN
    height = _ROW * (rows + 1) + _TITLE * len(shown)

    with styled():
        figure = new_figure(width, height)
        figure.set_layout_engine("none")
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, width), ylim=(height, 0))
        axis.set_axis_off()

        top = 0.0
        for title, block in shown.items():
            top = _paint_block(axis, top, title, block)
        axis.text(_MARGIN, top + _ROW / 2, LEGEND, va="center")

    return figure


def _paint_block(
    axis: "Axes", top: float, title: str, results: Sequence[Result]
) -> float:
    """Paint a block, and return where it ends."""
    headings = {heading(result): _title(result) for result in results}
    cells = {(result.fault, heading(result)): result for result in results}
    faults = [fault for fault in FAULTS if any(fault == each for each, _ in cells)]

    axis.text(_MARGIN, top + 16, title, va="center", fontsize=9, fontweight="bold")
    for number, words in enumerate(headings.values()):
        middle = _LEFT + _CELL * (number + 0.5)
        axis.text(middle, top + _TITLE - 6, words, ha="center", va="bottom")

    for row, fault in enumerate(faults):
        y = top + _TITLE + _ROW * row
        axis.text(_LEFT - 8, y + _ROW / 2, fault, ha="right", va="center")
        for number, name in enumerate(headings):
            _paint_cell(axis, _LEFT + _CELL * number, y, cells.get((fault, name)))

    return top + _TITLE + _ROW * len(faults)


def _title(result: Result) -> str:
    """Return the title of a result's column in two lines."""
    reference = result.reference
    if reference and reference.engine:
        return f"{reference.beside}\nalone, {reference.setting}"
    return heading(result).replace(" ", "\n", 1)


def _paint_cell(axis: "Axes", x: float, y: float, result: Result | None) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - only pictures need it

    if result is None:
        words, fill, colour = "-", _NOT_DONE, GREY
    elif result.broken or damages(result):
        words, fill, colour = f"✗ {in_words(result)}", _LOST, "white"
    else:
        words, fill, colour = f"✓ {in_words(result)}", _KEPT, DARK

    box = Rectangle((x + 1, y + 1), _CELL - 2, _ROW - 2, facecolor=fill)
    axis.add_patch(box)
    axis.text(
        x + _CELL / 2,
        y + _ROW / 2,
        words,
        ha="center",
        va="center",
        color=colour,
        fontsize=7.5 if words.count("\n") < 2 else 6.5,  # noqa: PLR2004 - has room
        fontweight="bold" if fill == _LOST else "normal",
        linespacing=1.15,
    )


def in_words(result: Result) -> str:
    """Return in a few short lines what became of the tasks of a run."""
    counted = result.figures
    if "answered" not in counted:
        return "did not run"

    if result.is_reference:
        wrong = [f"{number} {word}" for word, number in damages(result).items()]
        return "\n".join(wrong) or "none lost"

    if result.broken:
        return textwrap.fill(
            result.broken[0], _CHARACTERS, max_lines=2, placeholder=" …"
        )

    kept, again = f"{counted['recorded']} kept", counted["again"]
    return f"{kept}\nagain in {again['max']:.0f} s" if again["tasks"] else kept
