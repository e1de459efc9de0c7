"""Read what is written in a picture, and check that all of it can be read."""

import re
from html import unescape
from itertools import combinations
from xml.etree import ElementTree as ET

from matplotlib.figure import Figure
from matplotlib.text import Text

from generator.drawing import styled


def texts(svg: str) -> list[str]:
    """Return what is written: matplotlib draws outlines, and notes the text beside."""
    ET.fromstring(svg)  # noqa: S314 - our own
    return [unescape(text) for text in re.findall("<!-- (.+?) -->", svg)]


def assert_text_is_whole(figure: Figure) -> None:
    """Fail if a text leaves its picture or covers another one."""
    with styled():
        figure.draw_without_rendering()
        boxes = {
            text: text.get_window_extent()
            for text in figure.findobj(Text)
            if isinstance(text, Text) and text.get_visible() and text.get_text()
        }
    for axis in figure.axes:  # Of ticks, those beyond the end are not drawn.
        for tick_axis, bounds in ((axis.xaxis, "intervalx"), (axis.yaxis, "intervaly")):
            low, high = sorted(getattr(axis.bbox, bounds))
            for label in tick_axis.get_ticklabels(which="both"):
                box = boxes.get(label)
                if box and not low - 1 <= sum(getattr(box, bounds)) / 2 <= high + 1:
                    del boxes[label]

    outside = [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < 0
        or box.y0 < 0
        or box.x1 > figure.bbox.x1
        or box.y1 > figure.bbox.y1
    ]
    covered = [
        (one.get_text(), other.get_text())
        for one, other in combinations(boxes, 2)
        if boxes[one].overlaps(boxes[other])
    ]
    assert boxes
    assert outside == []
    assert covered == []
