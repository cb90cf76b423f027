"""A chart of metrics that reads its points itself, straight from the API: the page's socket carries none of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from nicegui.element import Element
from nicegui.elements.echart import EChart  # noqa: F401  (its import makes the browser know ECharts)

from rewarm.studio.ui.visit import Visit

WORDS = ("empty", "failed", "smoothing", "log", "reset")


@dataclass(frozen=True)
class Line:
    """One line: ``url`` answers a ``Series``; ``run`` is whose live points join it, where it is live."""

    label: str
    url: str
    run: str = ""
    metric: str = ""


def line_of(run: str, metric: str, label: str = "") -> Line:
    """A metric of a run."""
    return Line(label or metric, f"/api/v1/runs/{quote(run)}/metrics/{quote(metric)}", run, metric)


class Chart(Element, component="chart.js"):
    """Lines over steps (or, with ``time``, over seconds since 1970); drag or wheel to zoom, which reads finer points.

    Where points were put together, the band from the smallest to the largest stands behind the mean.
    """

    def __init__(
        self,
        visit: Visit,
        title: str,
        lines: list[Line],
        *,
        live: bool = False,
        after: int = 0,
        time: bool = False,
        log: bool = False,
        smoothing: float = 0.0,
        height: int = 240,
    ) -> None:
        super().__init__()
        self._props.update(
            heading=title,
            lines=[asdict(line) for line in lines],
            live=live,
            after=after,
            time=time,
            log=log,
            smoothing=smoothing,
            words={word: visit.say(f"chart.{word}") for word in WORDS},
        )
        self.classes("rw-chart").style(f"height: {height}px")

    def change(self, **props: Any) -> None:
        """Set ``log``, ``smoothing``, ``lines`` or ``live`` of a chart that stands."""
        self._props.update(props)
        self.update()
