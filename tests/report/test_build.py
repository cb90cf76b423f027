from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rewarm.report import words
from rewarm.report.build import build_report, write_report
from rewarm.report.compare import compare
from rewarm.report.markdown import markdown
from rewarm.report.page import page
from rewarm.report.plots import draw_plots
from tests.report.sample_report import curves, entry, rows, sample_report, text_items

EVIL = "<script>alert('$x_1$')</script>|`\"&"


class Outline(HTMLParser):
    """The tags of a page with their attributes, and all its text; an unclosed tag is an error."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return sample_report()


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return page(report)


def test_the_files_are_drawn_from_the_json_alone(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report, tmp_path / "report")
    again = json.loads((tmp_path / "report" / "report.json").read_bytes())
    write_report(again, tmp_path / "again")
    for name in ("report.json", "report.md", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()


def test_json_keeps_its_contract(report: dict[str, Any]) -> None:
    assert report["schema"] == 1
    contract = {"task", "metric", "base", "result", "difference", "low", "high", "n", "method", "role"}
    for row in report["rows"]:
        assert contract <= set(row) and row["role"] in ("gain", "forgetting")
    assert "NaN" not in json.dumps(report) and "Infinity" not in json.dumps(report)
    assert set(report["base"]) == {"reference", "fingerprint", "parameters"}  # no path of this machine


def test_gain_and_forgetting_stand_apart_with_their_intervals(report: dict[str, Any], html: str) -> None:
    gain, forgetting = report["headline"]["gain"], report["headline"]["forgetting"]
    assert gain["of"] == ["law"] and gain["percent"] == pytest.approx(27, abs=1.5)
    assert forgetting["of"] == ["topics"] and not forgetting["replayed"]
    for text in (Outline(html).text, markdown(report)):
        for value in (gain, forgetting):
            assert words.number(value["percent"], 1) in text
        assert f"95 % interval {gain['low']:.1f} to {gain['high']:.1f}" in text


def test_forgetting_reads_as_what_it_is() -> None:
    def line(*changes: float) -> words.Line:
        pairs = [text_items(140, 0.7, change, 3 + i) for i, change in enumerate(changes)]
        table = [
            compare(f"panel{i}", "bits_per_byte", "forgetting", *pair, seed=7, resamples=500)
            for i, pair in enumerate(pairs)
        ]
        entries = [entry(row["task"], "panel", 160, 145, 0, 0) for row in table]
        return words.headlines(sample_report(rows=table, data={"sources": entries}, mixture=None))[1]

    better = line(-0.02)
    assert (better.title, better.calm) == ("Nothing forgotten", True)
    assert re.fullmatch(r"[12]\.\d % better", better.figure) and words.MINUS not in better.interval
    worse = line(0.02)
    assert (worse.title, worse.calm) == ("Forgetting", False) and "something was forgotten" in worse.text
    assert (line(0.0).title, line(0.0).calm) == ("Forgetting", True)
    assert line(-0.06, 0.01).title == "Forgetting"  # better in the mean, and yet something was forgotten
    replayed = [{**row, "percent": -2.0, "percent_low": -3.0, "percent_high": -1.0} for row in rows()[:2]]
    alone = words.headlines(sample_report(rows=replayed))[1]
    assert (alone.title, alone.calm) == ("Forgetting", True)  # what was replayed says nothing of the rest


def test_the_replayed_text_is_told_from_the_panels(report: dict[str, Any], html: str) -> None:
    roles = {row["task"]: words.result_cells(row)[1] for row in report["rows"]}
    assert (roles["topics"], roles["replay"]) == ("forgetting", "forgetting (replayed)")
    assert "Name of the dataset" in html and "SHA-256 of the dataset" not in html


def test_on_a_phone_what_is_watched_follows_what_is_learned(report: dict[str, Any]) -> None:
    titles = [plot.title for plot in draw_plots(report)]
    assert titles[:2] == ["Learned text: change", "Watched text: change"]


def test_every_line_of_a_waterfall_is_named(report: dict[str, Any]) -> None:
    svg = next(plot.svg for plot in draw_plots(report) if plot.title.startswith("law: "))
    for word in ("documents in", "duplicate", "rejected: empty text", "held out", "accepted", "2,702", "2,655"):
        assert word in svg
    height = float(svg.split('viewBox="0 0 ')[1].split()[1].rstrip('"'))
    assert height <= 24 * 6


def test_kinds_come_from_the_dataset() -> None:
    """A row that did not know that its text was replayed does not become a panel."""
    table = [{**row, "kind": "panel"} for row in rows()]
    report = sample_report(rows=table)
    assert [row["kind"] for row in report["rows"]] == ["source", "panel", "replay", "task"]
    without_panel = sample_report(rows=[row for row in table if row["task"] != "topics"])
    assert without_panel["headline"]["forgetting"]["replayed"]
    assert any("was replayed" in line for line in without_panel["limits"])


def test_limits_say_what_is_missing(report: dict[str, Any]) -> None:
    text = " ".join(report["limits"])
    assert "of law, replay:" in text and "One seed" in text and "benchmark items" in text
    alone = sample_report(rows=rows()[:1])
    assert any("Forgetting was not measured" in line for line in alone["limits"])
    assert any("in-context learning" in line for line in alone["limits"])


def test_no_interval_is_called_approximate_where_there_is_none() -> None:
    few = compare("law", "bits_per_byte", "gain", *text_items(4, 1.9, -0.3, 1), seed=7, resamples=500)
    limits = sample_report(rows=[few])["limits"]
    assert "Too few documents or items were scored of law for an interval" in limits[0]
    assert not any("approximate" in line for line in limits)
    assert "Intervals" not in " ".join(words.notes([few])) and "too few for an interval" in " ".join(words.notes([few]))


def test_every_document_is_accounted_for(report: dict[str, Any]) -> None:
    assert "Documents in = accepted (to be trained on) + held out + filtered + rejected." in " ".join(
        words.data_notes(report["data"])
    )
    lost = sample_report(
        data={"tokenizer": "x", "sources": [entry("law", "source", 100, 32, 10, 5) | {"accepted": 50}]}, rows=rows()[:1]
    )
    assert "Of law the documents in do not equal" in " ".join(words.data_notes(lost["data"]))


def test_what_the_run_read_of_each_text_is_said(report: dict[str, Any], html: str) -> None:
    seen = {text["name"]: (text["documents_seen"], text["tokens_seen"]) for text in report["data"]["texts"]}
    assert seen == {"law": (25, 22_656), "replay": (21, 7_552), "topics": (None, None)}
    for text in (Outline(html).text, markdown(report)):
        assert "Seen in this run" in text and "22.7 k tokens of 25 documents" in text
    heads, _ = words.data_rows([{**text, "tokens_seen": None} for text in report["data"]["texts"]])
    assert "Seen in this run" not in heads  # of a dataset that no run read


def test_the_page_asks_for_nothing_from_elsewhere(html: str) -> None:
    outline = Outline(html)
    names = {tag for tag, _ in outline.tags}
    assert not names & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    for tag, attributes in outline.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "action"):
                assert value and value.startswith("#"), (tag, value)
    assert not re.search(r"url\((?!#)", html) and "@import" not in html
    assert "prefers-color-scheme: dark" in html and "max-width: 720px" in html


def test_plots_take_colour_and_type_from_the_page(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 9
    for svg in drawings:
        root = ElementTree.fromstring(svg)
        assert root.get("viewBox") and root.get("role") == "img" and root.get("aria-label")
        assert root.get("width") is None  # it scales
        assert "font-family" not in svg and " id=" not in svg
        assert not re.search(r"#[0-9a-f]{6}", svg), "a colour that the page cannot change"
        assert any(element.tag.endswith("text") and element.text for element in root.iter())


def test_what_a_user_names_stays_text(tmp_path: Path) -> None:
    texts = [entry(EVIL, "source", 100, 32, 1000, 500)]
    table = [{**rows()[0], "task": EVIL}]
    metrics = {**curves(), f"eval/{EVIL.replace('/', '')}/bits_per_byte": [(0, 0, 2.0), (1, 512, 1.5)]}
    report = sample_report(
        name=EVIL,
        base={"reference": EVIL},
        rows=table,
        metrics=metrics,
        data={"tokenizer": "x", "sources": texts},
        recipe_text=f"name: {EVIL}\n```\n# not a heading",
        command=f"rewarm run {EVIL}",
        mixture=None,
        run=EVIL,
    )
    write_report(report, tmp_path)
    outline = Outline((tmp_path / "report.html").read_text())
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.text.count(EVIL) >= 5
    text = (tmp_path / "report.md").read_text()
    outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside.replace("`<script>", "") and "not a heading" not in outside
    for line in outside.splitlines():
        if line.startswith("| ") and "script" in line and "Metric" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 10, 11, 12)


def test_a_report_of_almost_nothing_is_still_a_report(tmp_path: Path) -> None:
    report = build_report(
        name="bare",
        base={"reference": "./base"},
        result={},
        rows=[],
        metrics={},
        data={"sources": []},
        recipe_text="",
        resolved={},
        training={"steps": 0, "tokens": 0},
    )
    write_report(report, tmp_path)
    outline = Outline((tmp_path / "report.html").read_text())
    assert outline.text.count("not measured") == 3  # gain, forgetting, and why it is a limit
    assert "svg" not in {tag for tag, _ in outline.tags}


def test_the_ends_of_the_loss_are_means_and_say_of_how_much() -> None:
    """Two single batches differ by more than a training changes."""
    training = sample_report()["training"]  # 59 points
    losses = [value for _, _, value in curves()["train/loss"]]
    assert training["loss_points"] == 3
    assert training["first_loss"] == pytest.approx(sum(losses[:3]) / 3)
    assert training["last_loss"] == pytest.approx(sum(losses[-3:]) / 3)
    for points, few in ((200, 10), (6, 3), (5, 2), (1, 1), (0, 0)):
        made = sample_report(metrics={"train/loss": [(s, s, float(s)) for s in range(points)]})["training"]
        assert made["loss_points"] == few
    assert "means of the first and last 3 logged points" in markdown(sample_report())


def test_what_was_held_against_the_benchmarks_is_said() -> None:
    step = {"kind": "decontaminate", "words": 13, "path": "items.jsonl"}
    found = {"steps": [step], "flagged": {"decontaminate: 13-gram of lambada_vi": ["17", "40"]}}

    def told(law: dict[str, Any], replay: dict[str, Any]) -> str:
        texts = [entry("law", "source", 100, 32, 1000, 500) | law, entry("replay", "replay", 90, 9, 900, 400) | replay]
        return " ".join(sample_report(data={"tokenizer": "x", "sources": texts})["limits"])

    assert "was not checked" in told({}, {}) and "was not checked" not in told(found, found)
    assert "were not trained on (2 items found)" in told(found, found)
    assert "not looked for in replay" in told(found, {})
    without_tasks = sample_report(rows=rows()[:3])["limits"]
    assert not any("benchmark items" in line for line in without_tasks)


def test_the_first_rows_are_shown_with_every_boundary(html: str) -> None:
    long = "".join(f"{n} " for n in range(1000))
    segment = {"source": "law", "document": 7, "begin": 0, "end": 60, "length": 80, "text": f"{long}<b>"}
    report = sample_report(first_rows=[[segment] * 10, [{**segment, "begin": 60, "end": 80, "text": "end"}]])
    first, second = report["data"]["first_rows"]
    assert (first["tokens"], first["count"], len(first["segments"]), second["tokens"]) == (600, 10, 8, 20)
    text = Outline(page(report)).text
    assert "Row 0: 600 tokens of 10 documents, of which the first 8 are shown" in text
    assert "law #7, tokens 60 to 80 of 80" in text
    assert "characters ...]" in text and text.count("<b>") == 8 and len(text) < 20_000
    assert "as the model sees them" not in html  # where there is nothing to show


def test_each_source_has_its_own_loss() -> None:
    loss = curves()["train/loss"]
    split = {"train/loss": loss, "train/loss/law": loss, "train/loss/replay": [(s, t, v / 2) for s, t, v in loss]}
    plot = next(p for p in draw_plots(sample_report(metrics=split)) if p.title == "Training loss by source")
    assert ">law<" in plot.svg and ">replay<" in plot.svg and plot.svg.count("stroke-dasharray") == 1
    alone = draw_plots(sample_report(metrics={"train/loss": loss, "train/loss/law": loss}))
    assert "Training loss by source" not in {p.title for p in alone}  # it would be the same curve again


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 3e7])
def test_labels_lie_inside_the_plot_and_apart(scale: float) -> None:
    """Whatever the figures: no label outside the drawing, no two of them over each other."""
    names = [f"source-number-{n}" for n in range(14)]
    metrics = {
        f"eval/{name}/bits_per_byte": [(0, 0, 1.0), (9, int(1e6 * scale) + 1, 1 - 1e-3 * n)]
        for n, name in enumerate(names)
    }
    metrics |= {"train/loss": [(s, s, scale * (9 - s)) for s in range(8)], "train/lr": [(1, 1, scale), (2, 2, scale)]}
    changed = [{**row, "base": row["base"] * scale, "result": row["result"] * scale} for row in rows()]
    for plot in draw_plots(sample_report(rows=changed, metrics=metrics)):
        root = ElementTree.fromstring(plot.svg)
        width, height = map(float, str(root.get("viewBox")).split()[2:])
        boxes = []
        for label in root.iter("text"):
            long = 0.6 * float(label.get("font-size", 0)) * len(label.text or "")
            x, y = float(label.get("x", 0)), float(label.get("y", 0))
            left = x - long * {"start": 0, "middle": 0.5, "end": 1}[label.get("text-anchor", "")]
            boxes.append((left, left + long, y - 9, y, label.text))
            assert 9 <= y <= height and left + long <= width + 24 and left >= -12, (plot.title, label.text)
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], (plot.title, a[4], b[4])


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    long = [(s, 10 * s, 1 / (s + 1)) for s in range(100_000)]
    kept = sample_report(metrics={"train/loss": long})["curves"]["train/loss"]
    assert len(kept) == 400 and kept[0] == list(long[0]) and kept[-1] == list(long[-1])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-0.7243, "\N{MINUS SIGN}0.724"),
        (-0.0001, "0.000"),
        (0.0, "0.000"),
        (1234.5, "1,234.500"),
        (None, "\N{EN DASH}"),
    ],
)
def test_numbers_read_well(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


def test_the_report_never_loads_torch() -> None:
    """Neither importing its modules nor drawing all of them does: a server without torch shows them."""
    program = (
        "import importlib, pkgutil, sys, rewarm.report\n"
        "for module in pkgutil.iter_modules(rewarm.report.__path__):\n"
        "    importlib.import_module(f'rewarm.report.{module.name}')\n"
        "from tests.report.sample_report import sample_report\n"
        "rewarm.report.page.page(sample_report())\n"
        "rewarm.report.markdown.card(sample_report())\n"
        "assert not {'torch', 'transformers', 'lm_eval', 'peft'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
