"""Draw with matplotlib so that a picture is the same on every machine and page."""

import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hooks.refusal import Refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK, GREY, WHITE = "#222222", "#6b6b6b", "#ffffff"

_PIXELS = 96  # An inch, as browsers count.


def check() -> None:
    """Make sure that pictures can be drawn, before hours of measuring.

    Raises:
        Refusal: matplotlib is not installed; only maintainers need it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise Refusal("pictures need matplotlib: install it with pip, or omit them")


@contextmanager
def styled() -> Iterator[None]:
    """Draw with our style and matplotlib's defaults, whatever the machine prefers."""
    import matplotlib as mpl  # noqa: PLC0415 - only pictures need it

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "font.family": "DejaVu Sans",  # matplotlib brings it.
                "font.size": 8,
                "hatch.linewidth": 0.6,
                "savefig.facecolor": "white",
                "text.color": DARK,
                "svg.fonttype": "path",
                "svg.hashsalt": "musthappen",
            }
        )
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty white picture of so many pixels."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only pictures need it

    return Figure((width / _PIXELS, height / _PIXELS), layout="constrained")


def svg(figure: "Figure") -> str:
    """Return a figure as SVG, without date and version, so that it can be compared."""
    file = io.StringIO()
    nothing_that_changes = {"Creator": None, "Date": None}
    with styled():
        figure.savefig(file, format="svg", metadata=nothing_that_changes)

    # Lines that end in blanks would be cut by the checks before a commit.
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
