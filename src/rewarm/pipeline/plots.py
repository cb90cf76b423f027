"""The report's plots as inline SVG that takes its colours and its type from the page.

matplotlib lays them out (imported only here and only when a report is drawn; no display, no
pyplot state). Text stays text. Colours are drawn as marks and become CSS variables afterwards, so
that one drawing serves a light and a dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewarm.core.amounts import amount
from rewarm.pipeline import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rewarm.evaluate.compare import Row

INK, MUTED, RULE, GAIN, FORGETTING, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    GAIN: "var(--gain)",
    FORGETTING: "var(--forgetting)",
    PAPER: "var(--paper)",
}
_WIDTH = 360.0  # CSS pixels: those of a phone, where a plot is shown as large as it is drawn; elsewhere up to 440
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Plot:
    """One drawing: its title and the sentence beneath it belong to the page, the rest is SVG."""

    title: str
    caption: str
    svg: str
    section: str = "rows"
    """Where it stands: with the table's rows, over tokens, or with the data."""
    tall: bool = False
    """Whether it stands beside two others, at the right."""


def draw_plots(report: Mapping[str, Any]) -> list[Plot]:
    """Every plot that the report has figures for, in reading order."""
    curves, kinds = report["curves"], {text["name"]: text["role"] for text in report["data"]["texts"]}
    bits = [row for row in report["rows"] if row["metric"] == "bits_per_byte" and row["percent"] is not None]
    tasks = [row for row in report["rows"] if row["kind"] == "task" and row["p"] is not None]
    watched = {
        name.split("/")[1]: points
        for name, points in curves.items()
        if name.startswith("eval/") and name.endswith("/bits_per_byte") and points
    }
    learned, kept = ([row for row in bits if (row["kind"] == "source") is side] for side in (True, False))
    changes = (("Learned text: change", learned), ("Watched text: change", kept))
    plots = [_change(title, rows) for title, rows in changes if rows]
    if bits:
        plots.append(_before_after(bits, tall=(len(plots) + bool(tasks)) % 2 == 0))
    if tasks:
        plots.append(_tasks(tasks))
    if any(len(points) > 1 for points in watched.values()):
        plots.append(_held_out(watched, kinds))
    if len(curves.get("train/loss", ())) > 1:
        plots.append(_curve("Training loss", "nats per token", curves["train/loss"], INK))
    if len(curves.get("train/lr", ())) > 1:
        plots.append(_curve("Learning rate", "", curves["train/lr"], MUTED, zero=True))
    lossy = [
        text for text in report["data"]["texts"] if sum(text["filtered"].values()) + sum(text["rejected"].values())
    ]
    return [*plots, *(_waterfall(text) for text in lossy)]


# --- rows ---


def _colour(row: Row) -> str:
    if row["kind"] == "task":
        return INK
    return GAIN if row["role"] == "gain" else FORGETTING


def _change(title: str, rows: Sequence[Row]) -> Plot:
    """Relative change with its interval, a line a text; gain and forgetting each on a scale of their own."""

    def draw(axes: Axes) -> None:
        _forest(axes, rows, "percent", 1, lambda value: words.percent(value))

    svg = _svg(title, _height(rows), draw, f"{title} of bits per byte in per cent, with 95 % intervals")
    caption = "Bits per byte, per cent of the base; the line is the 95 % interval. Left of zero is better."
    return Plot(title, caption, svg)


def _tasks(rows: Sequence[Row]) -> Plot:
    """Difference of accuracies in points."""

    def draw(axes: Axes) -> None:
        _forest(axes, rows, "difference", 100, lambda value: words.number(value, 1, sign=True))

    svg = _svg("tasks", _height(rows), draw, "Change of accuracy in points, with 95 % intervals")
    return Plot("Tasks: change of accuracy", "Points; the line is the 95 % interval. Right of zero is better.", svg)


def _forest(axes: Axes, rows: Sequence[Row], key: str, scale: float, label: Callable[[float], str]) -> None:
    bounds = ("percent_low", "percent_high") if key == "percent" else ("low", "high")
    for y, row in enumerate(rows):
        colour, value = _colour(row), scale * row[key]  # type: ignore[literal-required]
        low, high = row[bounds[0]], row[bounds[1]]  # type: ignore[literal-required]
        if low is not None and high is not None:
            axes.plot([scale * low, scale * high], [y, y], color=colour, linewidth=2)
        axes.plot([value], [y], "o", color=colour, markersize=6, markeredgecolor=PAPER, markeredgewidth=1.2)
        _name(axes, y, _label(rows, row), label(value))
    low, high = axes.get_xlim()
    pad = 0.04 * (max(high, 0) - min(low, 0))
    axes.set_xlim(min(low, 0) - pad, max(high, 0) + pad)
    _rows(axes, len(rows), zero=True)


def _before_after(rows: Sequence[Row], tall: bool) -> Plot:
    """Base and result of each text, each with its own interval."""

    def draw(axes: Axes) -> None:
        for y, row in enumerate(rows):
            colour = _colour(row)
            for side, offset, filled in (("base", -0.1, False), ("result", 0.14, True)):
                value = row[side]  # type: ignore[literal-required]
                low, high = row[f"{side}_low"], row[f"{side}_high"]  # type: ignore[literal-required]
                at = y + offset
                if low is not None:
                    axes.plot([low, high], [at, at], color=colour if filled else MUTED, linewidth=2)
                face, edge = (colour, PAPER) if filled else (PAPER, MUTED)
                axes.plot([value], [at], "o", color=face, markersize=6.5, markeredgecolor=edge, markeredgewidth=1.4)
            arrow = f"{words.number(row['base'])} \N{RIGHTWARDS ARROW} {words.number(row['result'])}"
            _name(axes, y, _label(rows, row), arrow)
        _rows(axes, len(rows))

    svg = _svg("before-after", _height(rows), draw, "Bits per byte before and after, with 95 % intervals")
    return Plot(
        "Base and result",
        "Bits per byte; hollow is the base, filled the result, each with its own 95 % interval. "
        "Compare within a text, never between texts: languages differ in bytes per character.",
        svg,
        tall=tall,
    )


def _label(rows: Sequence[Row], row: Row) -> str:
    several = sum(other["task"] == row["task"] for other in rows) > 1
    return f"{row['task']} {row['metric'].replace('_', ' ')}" if several else row["task"]


def _name(axes: Axes, y: float, name: str, figure: str) -> None:
    """Name and figure of a row, above its line: no margin is lost to names of any length."""
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 12}
    axes.text(0, y - 0.38, _short(name, 30), ha="left", color=INK, **place)
    axes.text(1, y - 0.38, figure, ha="right", color=INK, **place)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _rows(axes: Axes, count: int, zero: bool = False) -> None:
    """Scale and grid; each row has its piece of the grid, so that no line runs behind its name."""
    axes.set_ylim(count - 0.6, -0.6)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.xaxis.set_major_formatter(_tick)
    axes.locator_params(axis="x", nbins=6)
    low, high = axes.get_xlim()
    for y in range(count):
        axes.vlines(
            [x for x in axes.get_xticks() if low <= x <= high], y - 0.2, y + 0.28, RULE, linewidth=0.7, zorder=0
        )
        if zero:
            axes.vlines([0], y - 0.2, y + 0.28, MUTED, linewidth=1, zorder=1)
    axes.set_xlim(low, high)


def _height(rows: Sequence[Row]) -> float:
    return 32 + 50 * len(rows)


# --- where the documents went ---


def _waterfall(text: Mapping[str, Any]) -> Plot:
    """What came in, what each rule took away, and what is left of a text: a line each."""
    bars = words.waterfall(text)

    def draw(axes: Axes) -> None:
        left = text["documents_in"]
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "color": INK}
        for y, (name, count) in enumerate(bars):
            whole = y in (0, len(bars) - 1)
            colour = GAIN if y == len(bars) - 1 else MUTED if whole or name == "held out" else FORGETTING
            # its edge keeps the smallest bar in sight
            axes.barh(y, count, 0.5, left=0 if whole else left - count, color=colour, edgecolor=colour, linewidth=1)
            left -= 0 if whole else count
            axes.text(-0.04, y, _short(name, 22), ha="right", **place)
            axes.text(1.04, y, f"{count:,}", ha="left", **place)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, text["documents_in"])
        axes.set_axis_off()
        axes.set_position((0.4, 0, 0.43, 1))

    title = f"{text['name']}: where the documents went"
    label = "Documents in, filtered by each rule, and accepted"
    svg = _svg(f"waterfall-{text['name']}", 24 * len(bars), draw, label)
    return Plot(title, "Documents, in the order of the rules.", svg, "data")


# --- curves over tokens ---


def _curve(title: str, unit: str, points: Sequence[Sequence[float]], colour: str, zero: bool = False) -> Plot:
    def draw(axes: Axes) -> None:
        axes.plot([p[1] for p in points], [p[2] for p in points], color=colour)
        if zero:
            axes.set_ylim(bottom=0)
        _tokens(axes)

    first, last = points[0][2], points[-1][2]
    shown = (lambda v: _tick(float(f"{v:.2g}"), 0)) if zero else words.number
    caption = f"{unit + ', ' if unit else ''}over training tokens: {shown(first)} at first, {shown(last)} at last."
    return Plot(
        title, caption[0].upper() + caption[1:], _svg(title, 220, draw, f"{title} over training tokens"), "tokens"
    )


def _held_out(watched: Mapping[str, Sequence[Sequence[float]]], kinds: Mapping[str, str]) -> Plot:
    """Change of each text's bits per byte from the base, over tokens."""

    def draw(axes: Axes) -> None:
        ends = []
        for name, points in watched.items():
            start = points[0][2]
            change = [100 * (p[2] / start - 1) for p in points]
            colour = GAIN if kinds.get(name) == "source" else FORGETTING
            style = "--" if kinds.get(name) == "replay" else "-"
            axes.plot([p[1] for p in points], change, style, color=colour, marker="o", markersize=4)
            ends.append((change[-1], name, colour))
        axes.axhline(0, color=MUTED, linewidth=1)
        _tokens(axes)
        axes.yaxis.set_major_formatter(lambda v, _: f"{words.number(v, 0 if _wide(axes) else 1, sign=True)} %")
        _end_labels(axes, ends)

    return Plot(
        "Held-out bits per byte over the training",
        "Change from the base in per cent, over training tokens. Dashed: text of the kind that was replayed.",
        _svg("held-out", 220, draw, "Held-out bits per byte over training tokens, change from the base in per cent"),
        section="tokens",
    )


def _wide(axes: Axes) -> bool:
    low, high = axes.get_ylim()
    return high - low > 6


def _end_labels(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """The name of each line at its right end, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    gap, ends = 0.1 * (high - low), sorted(ends)
    places = [value for value, _, _ in ends]
    for _ in range(50):
        for i in range(1, len(places)):
            push = max(0.0, gap - (places[i] - places[i - 1])) / 2
            places[i - 1], places[i] = places[i - 1] - push, places[i] + push
    for at, (_, name, colour) in zip(places, ends, strict=True):
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 12}
        axes.text(1.03, at, _short(name, 13), color=colour, ha="left", **place)
    axes.set_position((0.15, 0.2, 0.57, 0.75))


def _tokens(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: amount(value))
    axes.yaxis.set_major_formatter(_tick)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=5)
    axes.text(1, -0.16, "tokens", transform=axes.transAxes, ha="right", va="top", fontsize=11, color=MUTED)


def _tick(value: float, _: float) -> str:
    if 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{words.MINUS}{abs(int(exponent))}"
    return f"{value:g}".replace("-", words.MINUS)


# --- SVG ---


def _svg(name: str, height: float, draw: Callable[[Axes], None], label: str) -> str:
    """Draw on one pair of axes; return the ``<svg>`` element alone, scaling, in the page's colours and type."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_axes((0.15, 44 / height, 0.82, 1 - 56 / height))
        draw(axes)
        if not len(axes.get_yticks()):  # rows carry their names inside
            axes.set_position((0.01, 26 / height, 0.98, 1 - 26 / height))
        file = io.StringIO()
        canvas.print_svg(file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(file.getvalue(), label)


def _for_page(svg: str, label: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every drawing; a page's ids are unique
    svg = re.sub(r"font: ?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{label}">', svg, count=1)
    for mark, variable in _VARIABLES.items():
        svg = svg.replace(mark, variable)
    return svg.strip()
