"""The report as one HTML page that needs nothing else: no script, no font, no image from elsewhere.

It follows the reader's light or dark setting and reads on a phone as on a desk. Every string that
a user chose is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rewarm.report import words
from rewarm.report.plots import Plot, draw_plots

if TYPE_CHECKING:
    from rewarm.report.compare import Row

_STYLE = """
:root { color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1c2126; --muted: #646d76; --rule: #e2e4e1; --wash: #f4f5f2;
  --gain: #0b6e99; --forgetting: #b0560b; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #15181b; --ink: #e4e6e4; --muted: #99a1a8; --rule: #2f353a; --wash: #1d2125;
  --gain: #5cb3dc; --forgetting: #e59a55; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 20px; letter-spacing: -0.01em; margin: 64px 0 16px; }
h3 { font-size: 15px; margin: 0 0 2px; }
section p, li { max-width: 72ch; }
p { margin: 0 0 10px; }
.muted, .notes, figcaption { color: var(--muted); }
.notes, figcaption, .facts { font-size: 14px; }
.notes p { margin: 0 0 4px; }
.muted, code, pre, td { overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 40px; margin-top: 36px; }
.card { border-top: 3px solid; padding-top: 14px; }
.gain { border-color: var(--gain); } .forgetting { border-color: var(--forgetting); }
.card .figure { font-size: 46px; line-height: 1.15; letter-spacing: -0.03em; font-variant-numeric: tabular-nums; }
.gain .figure { color: var(--gain); } .forgetting .figure { color: var(--forgetting); }
.calm { border-color: var(--muted); }
header .open .figure { color: var(--muted); font-size: 28px; }
.card .interval { margin-bottom: 6px; color: var(--muted); font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 40px 40px;
  margin-bottom: 36px; align-items: start; }
figure { margin: 0; min-width: 0; } .wide { grid-column: 1 / -1; }
figure h3 { margin-bottom: 8px; } figcaption { margin-top: 8px; max-width: 56ch; }
svg { display: block; width: 100%; max-width: 440px; height: auto; overflow: visible; font-family: inherit; }
table { width: 100%; border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--muted); vertical-align: bottom; }
th, td { padding: 9px 12px 9px 0; border-bottom: 1px solid var(--rule); }
td.number, th.number { text-align: right; padding: 9px 0 9px 14px; overflow-wrap: normal; white-space: nowrap; }
.stack td:first-child { font-weight: 550; min-width: 7.4em; } .stack td:nth-child(2) { overflow-wrap: break-word; }
td.number:last-child { white-space: normal; }
.facts td:first-child { color: var(--muted); width: 15em; overflow-wrap: normal; }
.notes { margin-top: 14px; } .below { margin-top: 36px; } .below .notes { margin-top: 0; }
pre { background: var(--wash); padding: 14px 16px; border-radius: 6px; font-size: 13px; line-height: 1.5;
  white-space: pre-wrap; margin: 0 0 16px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { font-size: 0.9em; }
.segment { border-left: 3px solid var(--rule); padding-left: 14px; margin-bottom: 14px; }
.segment p { color: var(--muted); font-size: 14px; margin: 0 0 4px; } .segment pre { margin: 0; }
details h3, h3.apart { margin: 28px 0 8px; } .verdicts { margin-top: 28px; }
details { margin-top: 20px; } summary { cursor: pointer; color: var(--muted); font-size: 14px; margin-bottom: 8px; }
ul { padding-left: 1.2em; margin: 0; } li { margin-bottom: 6px; }
@media (max-width: 720px) {
  main { padding: 32px 16px 64px; }
  h1 { font-size: 27px; } h2 { margin-top: 48px; }
  .two { grid-template-columns: 1fr; gap: 28px; } .card .figure { font-size: 40px; }
  .stack thead { display: none; }
  .stack tr { display: block; padding: 10px 0; border-bottom: 1px solid var(--rule); }
  .stack td { display: flex; justify-content: space-between; gap: 16px; padding: 2px 0; border: 0; text-align: right;
    white-space: normal; }
  .stack td::before { content: attr(data-head); color: var(--muted); font-weight: 400; text-align: left; }
  .stack td:first-child { font-size: 16px; } .stack td:first-child::before { content: none; }
  .facts td:first-child { width: 45%; }
}
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole page, drawn from report.json's content."""
    name, plots = escape(report["name"]), draw_plots(report)

    def of(section: str) -> list[Plot]:
        return [plot for plot in plots if plot.section == section]

    body = [
        _head(report),
        _section("Before and after", _plots(of("rows")), _results(report["rows"])),
        _candidates(report, of("candidates")),
        _pilot(report.get("pilot")),
        _section("Training", _plots(of("tokens"), beside=_facts(words.training_facts(report)))),
        _section("Data", *_data(report["data"], of("data"))),
        _section("What this does not show", _list(report["limits"])),
        _settings(report),
        _repeat(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: before and after</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(body)}</main>\n</body>\n</html>\n"
    )


def _head(report: Mapping[str, Any]) -> str:
    base, date = escape(str(report["base"]["reference"])), escape(words.short_date(report["created"]))
    cards = "".join(_card(line) for line in words.headlines(report))
    return (
        f"<header><h1>{escape(report['name'])}</h1>"
        f'<p class="muted">Continual pretraining of {base}: before and after. {date}</p>'
        f'<div class="two">{cards}</div><p class="notes">{words.LEGEND}</p></header>\n'
    )


def _card(line: words.Line) -> str:
    kind = f"{line.role} open" if not line.interval else "calm" if line.calm else line.role
    return (
        f'<div class="card {kind}"><h3>{line.title}</h3><div class="figure">{escape(line.figure)}</div>'
        f'<div class="interval">{escape(line.interval)}</div><p>{escape(line.text)}</p></div>'
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(parts)}</section>\n"


def _plots(plots: Sequence[Plot], beside: str = "") -> str:
    """Plots in two columns; what is ``beside`` them takes the place that is left, or a row of its own."""
    if not plots:
        return beside
    if beside and len(plots) % 2 == 0:
        beside = f'<div class="wide">{beside}</div>'
    figures = "".join(
        f"<figure><h3>{escape(plot.title)}</h3>{plot.svg}<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in plots
    )
    return f'<div class="plots">{figures}{beside}</div>'


def _results(rows: Sequence[Row]) -> str:
    cells = [words.result_cells(row) for row in rows]
    verdicts, notes = ("".join(f"<p>{escape(one)}</p>" for one in of(rows)) for of in (words.verdicts, words.notes))
    tables = "".join(
        f'<h3 class="apart">{escape(title)}</h3>{_table(heads, lines, words=1)}'
        for title, heads, lines in words.task_tables(rows)
    )
    return (
        _table(words.RESULT_HEADS, cells, words=3)
        + f'{tables}<div class="verdicts">{verdicts}</div><div class="notes">{notes}</div>'
    )


def _candidates(report: Mapping[str, Any], plots: Sequence[Plot]) -> str:
    heads, cells = words.candidate_rows(report)
    if not cells:
        return ""
    rule = "".join(f"<p>{escape(line)}</p>" for line in words.choice(report))
    return _section(words.CANDIDATES, rule, _plots(plots), _table(heads, cells, words=4))


def _pilot(pilot: Mapping[str, Any] | None) -> str:
    if not pilot:
        return ""
    notes = "".join(f"<p>{escape(line)}</p>" for line in words.pilot_notes(pilot))
    return _section(words.PILOT, notes, _table(words.PILOT_HEADS, words.pilot_rows(pilot), words=1))


def _data(data: Mapping[str, Any], plots: Sequence[Plot]) -> list[str]:
    notes = "".join(f"<p>{escape(note)}</p>" for note in words.data_notes(data))
    samples = [
        (text["name"], rule, f"{one['file']}:{one['line']}", one["text"])
        for text in data["texts"]
        for rule, some in text["samples"].items()
        for one in some
    ]
    table = _table(("Text", "Rule", "Where", "How it begins"), samples, words=4)
    shown = f"<details><summary>Some documents that rules filtered</summary>{table}</details>" if samples else ""
    figures = _plots(plots, f'<div class="notes">{notes}</div>')
    return [
        _table(*words.data_rows(data["texts"]), words=2),
        f'<div class="below">{figures}</div>',
        _first_rows(data["first_rows"]),
        shown,
    ]


def _first_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first rows of the training as the model sees them: a block for each document, which sees no other."""
    blocks = []
    for number, row in enumerate(rows):
        blocks.append(f"<h3>{escape(words.row_title(number, row))}</h3>")
        for part in row["segments"]:
            about = escape(words.segment_title(part))
            blocks.append(f'<div class="segment"><p>{about}</p><pre>{escape(part["text"])}</pre></div>')
    title = "The first rows of the training as the model sees them"
    note = "A character that is cut between two rows is shown as \N{REPLACEMENT CHARACTER} on both sides."
    blocks.append(f'<p class="muted">{note}</p>')
    return f"<details><summary>{title}</summary>{''.join(blocks)}</details>" if rows else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """A table whose first ``words`` columns hold words, the others numbers; on a phone a block a row."""

    def kind(i: int) -> str:
        return "" if i < words else ' class="number"'

    head = "".join(f"<th{kind(i)}>{escape(text)}</th>" for i, text in enumerate(heads))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{kind(i)} data-head="{escape(heads[i])}"><span>{escape(text)}</span></td>'
            for i, text in enumerate(cells)
        )
        + "</tr>"
        for cells in rows
    )
    return f'<table class="stack"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts)
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _settings(report: Mapping[str, Any]) -> str:
    parts = []
    if report["ignored"]:
        lines = "".join(
            f"<li><code>{escape(item['field'])}</code>: ignored because {escape(item['because'])}</li>"
            for item in report["ignored"]
        )
        parts.append(f"<p>Given, but without effect in this run:</p><ul>{lines}</ul>")
    if report["hyperparameters"]:
        chosen = {"data.replay": report["data"].get("replay"), **report["hyperparameters"]}
        cells = [(n, _value(v["value"]), f"{v['origin']}: {v['reason']}") for n, v in chosen.items() if v]
        table = _table(("Field", "Value", "Why"), cells, words=3)
        parts.append(f"<details><summary>Every value, and why</summary>{table}</details>")
    return _section("Settings", *parts) if parts else ""


def _value(value: Any) -> str:
    """As a recipe says it."""
    if not isinstance(value, Mapping):
        return str(value)
    return f"{{{', '.join(f'{name}: {_value(one)}' for name, one in value.items())}}}"


def _repeat(report: Mapping[str, Any]) -> str:
    repeat = report["repeat"]
    return _section(
        "How to get it again",
        f"<pre>{escape(repeat['command'])}</pre>",
        f"<details open><summary>recipe.yaml</summary><pre>{escape(repeat['recipe'].rstrip())}</pre></details>",
        _facts(words.repeat_facts(report)),
    )
