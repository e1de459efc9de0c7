"""Draws bars as a small SVG, for a page that nothing needs to be installed for."""

from collections.abc import Mapping
from html import escape

from benchmarks.figures import short

_COLOURS = ("#2f6f9f", "#b9c4cc", "#d9a441", "#8fae6b", "#7d6b91")
_WIDTH, _LABEL, _BAR, _GAP, _HEAD = 760, 150, 14, 12, 52


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Return horizontal bars: a group of them per name, each bar in the colour of its series."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    colours = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(series)}
    highest = max(value for group in groups.values() for value in group.values())
    scale = (_WIDTH - _LABEL - 70) / highest
    parts = [
        f'<text x="0" y="14" font-weight="bold">{escape(title)} ({escape(unit)})</text>'
    ]
    at = 0
    for name in series:
        parts.append(
            f'<rect x="{at}" y="26" width="10" height="10" fill="{colours[name]}"/>'
        )
        parts.append(f'<text x="{at + 14}" y="35">{escape(name)}</text>')
        at += 30 + 7 * len(name)
    y = _HEAD
    for label, group in groups.items():
        parts.append(f'<text x="0" y="{y + 11}">{escape(label)}</text>')
        for name, value in group.items():
            width = max(1, round(value * scale))
            parts.append(
                f'<rect x="{_LABEL}" y="{y}" width="{width}" height="{_BAR - 2}"'
                f' fill="{colours[name]}"/>'
                f'<text x="{_LABEL + width + 4}" y="{y + 10}">{short(value)}</text>'
            )
            y += _BAR
        y += _GAP
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}"'
        f' font-family="sans-serif" font-size="12" role="img">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )
