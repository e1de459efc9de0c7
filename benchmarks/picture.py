"""Draw figures as bars that colour-blind readers and printers tell apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Spread, short
from generator.drawing import DARK, GREY, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "this project"

# Okabe and Ito's palette, which colour-blind readers tell apart, and a hatch for each.
_STYLES = (
    ("#0072b2", ""),
    ("#e69f00", "///"),
    ("#c9c9c9", "\\\\\\\\"),
    ("#d55e00", "xxx"),
)
_WIDTH, _BAR, _FRAME = 800, 15, 85
"""How wide a picture is, how high a bar, and a panel without its bars: pixels."""


@dataclass(frozen=True)
class Panel:
    """One comparison: bars in groups; a series has the same colour in each group."""

    title: str
    unit: str
    groups: Mapping[str, Mapping[str, Spread]]
    """By the name of the group and that of the series."""
    goal: tuple[str, float] | None = None
    """What is drawn as a line."""
    is_logarithmic: bool = False


def paint(panels: Sequence[Panel]) -> "Figure":
    """Return a figure with the panels below each other, under one legend."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - only pictures need it

    names = dict.fromkeys(
        name for panel in panels for group in panel.groups.values() for name in group
    )
    styles = dict(zip(names, _STYLES, strict=False))
    bars = [sum(len(g) + 1 for g in panel.groups.values()) for panel in panels]

    with styled():
        figure = new_figure(_WIDTH, _BAR * sum(bars) + _FRAME * len(panels))
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=bars)[:, 0]
        legend: list[Artist] = [
            Patch(facecolor=colour, hatch=hatch, edgecolor=DARK, label=name)
            for name, (colour, hatch) in styles.items()
        ]

        for panel, axis in zip(panels, axes, strict=True):
            _paint_bars(axis, panel, styles)
            legend += _paint_goal(axis, panel)

        figure.legend(
            handles=legend, loc="outside upper left", ncols=len(legend), frameon=False
        )

    return figure


def _paint_bars(
    axis: "Axes", panel: Panel, styles: Mapping[str, tuple[str, str]]
) -> None:
    middles, y = [], 0.0
    for group in panel.groups.values():
        middles.append(y + (len(group) - 1) / 2)
        for name, value in group.items():
            _paint_bar(axis, y, value, *styles[name])
            y += 1
        y += 1

    _set_scale(axis, panel)
    axis.set_yticks(middles, list(panel.groups))
    axis.set_ylim(y - 1.3, -0.7)
    axis.set_xlabel(panel.unit + (" (logarithmic)" if panel.is_logarithmic else ""))
    axis.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right"]].set_visible(False)


def _set_scale(axis: "Axes", panel: Panel) -> None:
    values = [spread for group in panel.groups.values() for spread in group.values()]
    highest = max(spread.high for spread in values)
    if panel.is_logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(spread.low for spread in values) / 3, highest * 4)
    else:
        goal = panel.goal[1] if panel.goal else 0
        axis.set_xlim(0, 1.12 * max(highest, goal))
    axis.xaxis.set_major_formatter("{x:,g}")


def _paint_bar(axis: "Axes", y: float, value: Spread, colour: str, hatch: str) -> None:
    errors = [[value.median - value.low], [value.high - value.median]]
    axis.barh(
        y,
        value.median,
        height=0.92,
        color=colour,
        hatch=hatch,
        edgecolor=DARK,
        linewidth=0.6,
        xerr=errors if value.low < value.high else None,
        error_kw={"ecolor": DARK, "elinewidth": 0.9, "capsize": 2},
    )
    axis.annotate(
        short(value.median),
        (value.high, y),
        xytext=(4, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=7,
    )


def _paint_goal(axis: "Axes", panel: Panel) -> list["Artist"]:
    if panel.goal is None:
        return []
    name, value = panel.goal
    return [axis.axvline(value, color=GREY, linestyle="--", linewidth=1.2, label=name)]
