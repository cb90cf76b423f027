"""Drawings that are made once from what a page has read: the waterfall of a text's documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui.element import Element
from nicegui.elements.echart import EChart  # noqa: F401  (its import makes the browser know ECharts)


class Plot(Element, component="plot.js"):
    """ECharts' ``option``, where a colour may be one of the page's, such as ``--rw-good``."""

    def __init__(self, heading: str, option: dict[str, Any], height: int) -> None:
        super().__init__()
        self._props.update(heading=heading, option=option)
        self.classes("rw-chart").style(f"height: {height}px")


def waterfall(heading: str, steps: Sequence[tuple[str, int]]) -> Plot:
    """What came in, what each reason took away, what is left: ``report.words.waterfall``."""
    shown, left = [], steps[0][1] if steps else 0
    for number, (name, count) in enumerate(steps):
        whole = number == 0 or number == len(steps) - 1
        kept = "--rw-ink-2" if number == 0 else "--rw-good"
        color = kept if whole else "--rw-info" if name == "held out" else "--rw-bad"
        left -= 0 if whole else count
        shown.append((0 if whole else left, count, color))
    bar = {"type": "bar", "stack": "all", "barCategoryGap": "30%"}
    values = [{"value": count, "itemStyle": {"color": color}} for _, count, color in shown]
    label = {"show": True, "position": "right", "color": "--rw-ink", "formatter": "{c}"}
    option = {
        "grid": {"left": 4, "right": 64, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "show": False},
        "yAxis": {
            "type": "category", "inverse": True, "data": [name for name, _ in steps], "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {"color": "--rw-ink-2", "width": 150, "overflow": "truncate"},
        },
        "series": [
            {**bar, "silent": True, "itemStyle": {"color": "transparent"}, "data": [before for before, *_ in shown]},
            {**bar, "data": values, "label": label},
        ],
    }  # fmt: skip
    return Plot(f"{heading}: " + ", ".join(f"{name} {count:,}" for name, count in steps), option, 40 + 30 * len(steps))
