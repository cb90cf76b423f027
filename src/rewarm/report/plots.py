"""The report's plots as inline SVG that takes its colours and its type from the page around it.

One drawing serves a light and a dark page, the browser and a model card on the hub. There are four
kinds: rows with intervals, candidates by gain and forgetting, curves over tokens, and what was left of
the documents; each is laid out for the width of a phone, where it is shown as large as it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from rewarm.core.amounts import amount
from rewarm.report import words

if TYPE_CHECKING:
    from rewarm.report.compare import Row

_WIDTH = 360  # CSS pixels
_INSET = 16.0  # of a scale from the edges, so that half a figure has room beside its last tick
_ROW, _BAR, _LINE = 50, 24, 15  # heights: of a row with its name, of a bar, of a name at the end of a curve

THICK, THIN, DASHED = 'stroke-width="1.8"', 'stroke-width="0.8"', 'stroke-width="1.8" stroke-dasharray="5 4"'

Points = Sequence[Sequence[float]]  # (step, tokens, value)


@dataclass(frozen=True)
class Plot:
    """One drawing: its title and the sentence beneath it belong to the page, the rest is SVG."""

    title: str
    caption: str
    svg: str
    section: str = "rows"
    """Where it stands: with the table's rows, the candidates, over tokens, or with the data."""


class _Mark(NamedTuple):
    """A row's name and figure in words, and where it stands with its interval."""

    name: str
    figure: str
    value: float
    low: float | None
    high: float | None
    colour: str


class _Curve(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]  # (tokens, value)
    colour: str
    look: str = THICK  # more attributes of its line
    dots: bool = False


def draw_plots(report: Mapping[str, Any]) -> list[Plot]:
    """Every plot that the report has figures for, in reading order."""
    bits = [row for row in report["rows"] if row["metric"] == "bits_per_byte" and row["percent"] is not None]
    tasks = [row for row in report["rows"] if row["kind"] == "task" and row["p"] is not None]
    learned, kept = ([row for row in bits if (row["kind"] == "source") is side] for side in (True, False))
    changes = (("Learned text: change", learned), ("Watched text: change", kept))
    keys, caption = ("percent", "percent_low", "percent_high"), "Bits per byte, per cent of the base: left of zero"
    plots = [_change(title, rows, keys, 1, " %", caption) for title, rows in changes if rows]
    if tasks:
        keys = ("difference", "low", "high")
        plots.append(_change("Tasks: change of accuracy", tasks, keys, 100, "", "Points: right of zero"))
    texts = report["data"]["texts"]
    lossy = [text for text in texts if sum(text["filtered"].values()) + sum(text["rejected"].values())]
    return [*plots, *_trade_off(report), *_over_tokens(report["curves"], texts), *map(_waterfall, lossy)]


# --- rows ---


def _change(title: str, rows: Sequence[Row], keys: Sequence[str], times: float, unit: str, caption: str) -> Plot:
    """How far each row moved, with its interval; gain and forgetting each on a scale of their own."""
    lines = []
    for row in rows:
        value, low, high = (None if row[key] is None else times * row[key] for key in keys)  # type: ignore[literal-required]
        figure = words.number(value, 1, sign=True) + unit
        colour = "ink" if row["kind"] == "task" else row["role"]
        lines.append(_Mark(_label(rows, row), figure, value or 0.0, low, high, colour))
    caption = f"{caption} is better; the line is the 95 % interval."
    return Plot(title, caption, _rows(lines, f"{title}, with 95 % intervals", unit))


def _label(rows: Sequence[Row], row: Row) -> str:
    several = sum(other["task"] == row["task"] for other in rows) > 1
    return f"{row['task']} {row['metric'].replace('_', ' ')}" if several else row["task"]


def _rows(marks: Sequence[_Mark], label: str, unit: str) -> str:
    """A line for each row under its name and figure: no margin is lost to names of any length."""
    low, high = _range([0.0, *(v for m in marks for v in (m.value, m.low, m.high) if v is not None)])
    place, ticks = _scale(low, high, _INSET, _WIDTH - _INSET), _ticks(low, high)
    parts = []
    for row, mark in enumerate(marks):
        top, bottom = row * _ROW + 20, row * _ROW + 46
        parts += [_text(0, top - 6, _short(mark.name, 30)), _text(_WIDTH, top - 6, mark.figure, anchor="end")]
        parts += [_line((place(tick), top), (place(tick), bottom), "rule") for tick in ticks]
        parts.append(_line((place(0), top), (place(0), bottom), "muted"))
        if mark.low is not None and mark.high is not None:
            parts.append(_line((place(mark.low), top + 13), (place(mark.high), top + 13), mark.colour, 2))
        parts.append(_dot(place(mark.value), top + 13, mark.colour))
    end = len(marks) * _ROW + 14
    parts += [_text(place(tick), end, words.brief(tick) + unit, "muted", "middle", 11) for tick in ticks]
    return _svg(end + 6, label, parts)


# --- where the documents went ---


def _trade_off(report: Mapping[str, Any]) -> list[Plot]:
    """What each candidate gained and what it forgot: none is better than one that lies above it and to its left."""
    weights, choice = report["result"].get("weights", "trained"), report["result"].get("choice")
    named = {other["weights"]: other["headline"] for other in report["candidates"]}
    named = {weights: report["headline"], **named}  # of the published one, the figures that it was chosen by
    points = {name: both for name, both in named.items() if both["gain"] and both["forgetting"]}
    if len(points) < 2:
        return []
    forgotten = [0.0, *(both["forgetting"]["percent"] for both in points.values())]
    budget = choice["max_forgetting"] if choice else None
    if budget is not None and budget > max(forgotten) + (max(forgotten) - min(forgotten)):
        budget = None  # so far away, it would push the points together
    x_low, x_high = _range([*forgotten, budget or 0.0])
    y_low, y_high = _range([0.0, *(both["gain"]["percent"] for both in points.values())])
    left, right, top, bottom = 50.0, _WIDTH - _INSET, 12.0, 232.0
    x, y = _scale(x_low, x_high, left, right), _scale(y_low, y_high, bottom, top)
    parts = [_text(right, bottom + 32, "forgetting, per cent", "muted", "end", 11)]
    for tick in _ticks(y_low, y_high):
        parts.append(_line((left, y(tick)), (right, y(tick)), "rule"))
        parts.append(_text(left - 6, y(tick) + 4, words.brief(tick) + " %", "muted", "end", 11))
    parts += [_text(x(tick), bottom + 16, words.brief(tick), "muted", "middle", 11) for tick in _ticks(x_low, x_high)]
    if budget is not None:
        parts.append(_line((x(budget), top), (x(budget), bottom), "forgetting", 1.4))
        parts.append(_text(x(budget) - 4, bottom - 6, "budget", "forgetting", "end", 11))
    for name, both in points.items():
        at, colour = (x(both["forgetting"]["percent"]), y(both["gain"]["percent"])), "ink"
        parts.append(_dot(*at, "gain" if name == weights else colour, filled=name == weights))
        near_edge = at[0] > (left + right) / 2
        parts.append(_text(at[0] + (-8 if near_edge else 8), at[1] + 4, name, colour, "end" if near_edge else "start"))
    caption = f"Gain (upwards) against forgetting (to the right), bits per byte; filled: {weights}, the chosen weights."
    label = "Gain against forgetting of every candidate"
    return [Plot("Gain against forgetting", caption, _svg(bottom + 38, label, parts), section="candidates")]


def _waterfall(text: Mapping[str, Any]) -> Plot:
    """What came in, what each rule took away, and what is left of a text: a line each."""
    bars, parts = words.waterfall(text), []
    place, left = _scale(0, text["documents_in"], 166, 296), text["documents_in"]
    for i, (name, count) in enumerate(bars):
        whole, y = i in (0, len(bars) - 1), i * _BAR
        colour = "gain" if i == len(bars) - 1 else "muted" if whole or name == "held out" else "forgetting"
        left -= 0 if whole else count
        x = place(0 if whole else left)
        width = max(place(count) - place(0), 1.5)  # the smallest stays in sight
        parts.append(f'<rect x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="12" style="fill:var(--{colour})"/>')
        parts += [_text(160, y + 16, _short(name, 22), anchor="end"), _text(304, y + 16, f"{count:,}")]
    svg = _svg(len(bars) * _BAR, "Documents in, filtered by each rule, and accepted", parts)
    return Plot(f"{text['name']}: where the documents went", "Documents, in the order of the rules.", svg, "data")


# --- curves over tokens ---


def _over_tokens(curves: Mapping[str, Points], texts: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Held-out text, training loss, and learning rate."""
    roles = {text["name"]: text["role"] for text in texts}
    found, loss, rate = [], curves.get("train/loss", ()), curves.get("train/lr", ())
    if any(len(points) > 1 for points in _of(curves, "eval/", "/bits_per_byte").values()):
        found.append(_held_out(_of(curves, "eval/", "/bits_per_byte"), roles))
    if len(loss) > 1:
        thin = _Curve("", _values(loss), "muted", THIN)
        svg = _curves([thin, _Curve("", _smooth(loss), "ink")], "Training loss over training tokens")
        caption = "Nats per token, over training tokens; the thick line is the mean over a tenth of the training."
        found.append(Plot("Training loss", caption, svg, "tokens"))
    if len(parts := {name: points for name, points in _of(curves, "train/loss/").items() if len(points) > 1}) > 1:
        lines = [_named(name, _smooth(points), roles) for name, points in parts.items()]
        caption = "Nats per token, over training tokens; means over a tenth of the training. Dashed: what is replayed."
        svg = _curves(lines, "Training loss of each source over training tokens")
        found.append(Plot("Training loss by source", caption, svg, "tokens"))
    if len(rate) > 1:
        first, last = words.brief(rate[0][2], 2), words.brief(rate[-1][2], 2)
        svg = _curves([_Curve("", _values(rate), "muted")], "Learning rate over training tokens", from_zero=True)
        found.append(Plot("Learning rate", f"Over training tokens: {first} at first, {last} at last.", svg, "tokens"))
    return found


def _of(curves: Mapping[str, Points], prefix: str, suffix: str = "") -> dict[str, Points]:
    """Curves of one kind, by the name of the text that they are of."""
    of = {name: points for name, points in curves.items() if name.startswith(prefix) and name.endswith(suffix)}
    return {name[len(prefix) : len(name) - len(suffix)]: points for name, points in of.items() if points}


def _held_out(watched: Mapping[str, Points], roles: Mapping[str, str]) -> Plot:
    """Change of each text's bits per byte from the base, over tokens."""
    lines = [
        _named(name, [(tokens, 100 * (value / points[0][2] - 1)) for _, tokens, value in points], roles, dots=True)
        for name, points in watched.items()
    ]
    label = "Held-out bits per byte over training tokens, change from the base in per cent"
    caption = "Change from the base in per cent, over training tokens. Dashed: text of the kind that was replayed."
    return Plot("Held-out bits per byte", caption, _curves(lines, label, " %", zero=True), section="tokens")


def _named(name: str, points: Sequence[tuple[float, float]], roles: Mapping[str, str], dots: bool = False) -> _Curve:
    look = DASHED if roles.get(name) == "replay" else THICK
    return _Curve(name, points, "gain" if roles.get(name) == "source" else "forgetting", look, dots)


def _values(points: Points) -> list[tuple[float, float]]:
    return [(tokens, value) for _, tokens, value in points]


def _smooth(points: Points) -> list[tuple[float, float]]:
    """The mean over a tenth of the points, and at least three, around each of them."""
    half = max(1, len(points) // 20)
    around = [points[max(0, i - half) : i + half + 1] for i in range(len(points))]
    return [(p[1], math.fsum(q[2] for q in near) / len(near)) for p, near in zip(points, around, strict=True)]


def _curves(
    curves: Sequence[_Curve], label: str, unit: str = "", *, zero: bool = False, from_zero: bool = False
) -> str:
    """Curves over tokens; those with a name carry it at their right end, apart from each other."""
    names = [curve for curve in curves if curve.name]
    left, right, top = 50, 252 if names else _WIDTH - _INSET, 8
    bottom = top + max(160, _LINE * len(names))
    low, high = _range([value for curve in curves for _, value in curve.points] + [0.0] * (zero or from_zero))
    low = 0.0 if from_zero else low
    last = max(tokens for curve in curves for tokens, _ in curve.points)
    x, y = _scale(0, last, left, right), _scale(low, high, bottom, top)
    parts = [_text(right, bottom + 32, "tokens", "muted", "end", 11)]
    for tick in _ticks(low, high):
        parts.append(_line((left, y(tick)), (right, y(tick)), "muted" if zero and tick == 0 else "rule"))
        parts.append(_text(left - 6, y(tick) + 4, words.brief(tick) + unit, "muted", "end", 11))
    across = _ticks(0, last, 4 if names else 5)
    parts += [_text(x(tick), bottom + 16, amount(tick), "muted", "middle", 11) for tick in across]
    for curve in curves:
        path = " ".join(f"{x(tokens):.1f},{y(value):.1f}" for tokens, value in curve.points)
        look = f'stroke-linejoin="round" style="stroke:var(--{curve.colour})" {curve.look}'
        parts.append(f'<polyline points="{path}" fill="none" {look}/>')
        parts += [_dot(x(tokens), y(value), curve.colour, radius=2.5) for tokens, value in curve.points if curve.dots]
    ends = sorted((y(curve.points[-1][1]), curve.name, curve.colour) for curve in names)
    for place, (_, name, colour) in zip(_apart([end for end, _, _ in ends], bottom), ends, strict=True):
        parts.append(_text(right + 8, place + 4, _short(name, 15), colour))
    return _svg(bottom + 38, label, parts)


def _apart(places: list[float], bottom: float) -> list[float]:
    """Rising ``places`` moved so that a line of text fits between any two, none of them below ``bottom``."""
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + _LINE)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], bottom - _LINE * (len(places) - 1 - i))
    return places


# --- scales and SVG ---


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A range that holds the values, with some room where they are not zero."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room * (low != 0 or high == 0), high + room * (high != 0 or low == 0)


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    return lambda value: begin + (value - low) / ((high - low) or 1.0) * (end - begin)


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most so many steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = power * next(times for times in (1, 2, 5, 10) if span / (power * times) <= most)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _text(x: float, y: float, text: str, colour: str = "ink", anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} style="fill:var(--{colour})">{escape(text)}</text>'


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str, width: float = 0.8) -> str:
    (x, y), (x2, y2) = begin, end
    place = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke-width="{width}" style="stroke:var(--{colour})"/>'


def _dot(x: float, y: float, colour: str, filled: bool = True, radius: float = 4) -> str:
    fill, edge = (colour, "paper") if filled else ("paper", colour)
    colours = f"fill:var(--{fill});stroke:var(--{edge})"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" stroke-width="1.3" style="{colours}"/>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    shape = f'viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}"'
    return f"<svg {shape}>{''.join(parts)}</svg>"
