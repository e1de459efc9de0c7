"""Draws the grid of targets and faults: green or red, with the figure that decided."""

from collections.abc import Sequence
from html import escape

from generator.drill.inside.faults import FAULTS
from generator.drill.references import Setting
from generator.drill.report import damages, verdict
from generator.drill.session import Result

CELL, ROW, LEFT, TOP = 170, 34, 160, 44
GREEN, RED, GREY, DARK, PALE = "#2e7d32", "#c62828", "#eeeeee", "#222222", "#666666"


def draw(results: Sequence[Result]) -> str:
    """Return an SVG picture of the results; where a pair was run twice, the later one counts.

    Below each fault's row stand those of the references, each in the column of its
    variant.
    """
    columns = list(dict.fromkeys(column(result) for result in results))
    found = {(result.fault, _setting(result)) for result in results}
    rows = [
        (fault, setting)
        for fault in FAULTS
        if fault in {name for name, _ in found}
        for setting in (None, *Setting)
        if setting is None or (fault, setting) in found
    ]
    cells = {
        (column(result), result.fault, _setting(result)): result for result in results
    }
    width, height = LEFT + CELL * len(columns) + 8, TOP + ROW * len(rows) + 8
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, name in enumerate(columns):
        parts.append(
            _text(LEFT + CELL * (number + 0.5), TOP - 14, name, anchor="middle")
        )
    for row, (fault, setting) in enumerate(rows):
        y = TOP + ROW * row
        label, fill = (f"alone, {setting}", PALE) if setting else (fault, DARK)
        parts.append(_text(LEFT - 10, y + ROW / 2 + 4, label, anchor="end", fill=fill))
        for number, name in enumerate(columns):
            parts += _cell(LEFT + CELL * number, y, cells.get((name, fault, setting)))
    return "\n".join([*parts, "</svg>", ""])


def column(result: Result) -> str:
    """Return the heading of a result's column."""
    name = result.reference.beside if result.reference else result.target
    return name + (" (SQLite)" if result.database == "sqlite" else "")


def key_figure(result: Result) -> str:
    """Return the figure that says most about a run."""
    counted = result.figures
    if "answered" not in counted:
        return "did not run"
    if result.is_reference:
        return (
            ", ".join(f"{number} {word}" for word, number in damages(result).items())
            or "0 lost"
        )
    if effects := counted["effects_missing"] + counted["effects_doubled"]:
        return f"{counted['lost']} lost, {effects} wrong"
    if result.broken:
        return f"{result.broken[0]:.24}"
    again = (
        f", again in {counted['again']['max']:.0f} s"
        if counted["again"]["tasks"]
        else ""
    )
    return f"{counted['recorded']} kept{again}"


def _setting(result: Result) -> Setting | None:
    return result.reference.setting if result.reference else None


def _cell(x: float, y: float, result: Result | None) -> list[str]:
    box = f'x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{ROW - 2}" rx="3"'
    if result is None:
        return [f'<rect {box} fill="{GREY}"/>']
    colour = RED if result.broken or damages(result) else GREEN
    title = escape(verdict(result).plain)
    text = _text(
        x + CELL / 2,
        y + ROW / 2 + 4,
        key_figure(result),
        anchor="middle",
        fill="#ffffff",
    )
    return [f'<g><title>{title}</title><rect {box} fill="{colour}"/>{text}</g>']


def _text(x: float, y: float, text: str, *, anchor: str, fill: str = DARK) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
