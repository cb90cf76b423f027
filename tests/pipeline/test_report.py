from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rewarm.evaluate.compare import compare
from rewarm.pipeline import words
from rewarm.pipeline.page import page
from rewarm.pipeline.plots import draw_plots
from rewarm.pipeline.report import build_report, markdown, write_report
from tests.pipeline.sample_report import curves, entry, rows, sample_report, text_items

EVIL = "<script>alert('$x_1$')</script>|`\"&"


class Outline(HTMLParser):
    """The tags of a page with their attributes, and all its text; an unclosed tag is an error."""

    VOID = ("meta", "br", "use", "path")

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
    return page(report, draw_plots(report))


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
    assert titles[:3] == ["Learned text: change", "Watched text: change", "Base and result"]
    alone = draw_plots(sample_report(rows=rows()[:3]))
    assert [plot.tall for plot in alone[:3]] == [False, False, True]  # no half of a row stays empty


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
    assert len(drawings) == 10
    ids: list[str] = []
    for svg in drawings:
        root = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert root.get("viewBox") and root.get("role") == "img" and root.get("aria-label")
        assert root.get("width") is None  # it scales
        assert "font-family" not in svg and "DejaVu" not in svg
        assert not re.search(r"#[0-9a-f]{6}", svg), "a colour that the page cannot change"
        assert any(element.tag.endswith("text") and element.text for element in root.iter())
        ids += [element.get("id", "") for element in root.iter() if element.get("id")]
        for target in re.findall(r'xlink:href="#([^"]+)"|url\(#([^)]+)\)', svg):
            assert "".join(target) in ids
    assert len(ids) == len(set(ids))


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


def test_matplotlib_waits_until_a_plot_is_drawn_and_needs_no_home(tmp_path: Path) -> None:
    """Importing the report loads neither matplotlib nor torch; drawing it works where nothing may be written."""
    program = (
        "import sys, rewarm.pipeline.report, rewarm.pipeline.card\n"
        "assert not {'matplotlib', 'torch', 'lm_eval'} & set(sys.modules)\n"
        "from tests.pipeline.sample_report import sample_report\n"
        "from rewarm.pipeline.plots import draw_plots\n"
        "assert len(draw_plots(sample_report())) == 10\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    home = tmp_path / "home"
    home.write_text("a file, so that no folder can be made in it")
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLCONFIGDIR")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "x"), "XDG_CACHE_HOME": str(home / "x")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
