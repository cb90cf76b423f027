"""What a run came to, on the terminal: its table and headlines, the report's files, comparisons, the last words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rewarm.cli.options import AsJson, RunName
from rewarm.cli.show import console, plain, print_json, print_table, say
from rewarm.core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE, DataError, UserError
from rewarm.core.events import Event
from rewarm.core.run import Run, find_run
from rewarm.core.states import LIVE
from rewarm.core.storage import sha256_bytes
from rewarm.core.workspace import Workspace

_FILES = {"md": "report.md", "json": "report.json", "html": "report.html"}


def report(
    run: RunName,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="table, md, json, or html (its path).")
    ] = "table",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute the table again from the kept items, and compare.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run learned and what it forgot."""
    found = find_run(Workspace.default(), run)
    form = "json" if as_json else form
    if form not in ("table", *_FILES):
        raise UserError(f"there is no format {form!r}", remedy=f"take one of: table, {', '.join(_FILES)}")
    if not (found.report / "report.json").is_file():
        state = found.status().state
        remedy = f"rewarm runs logs -f {found.id}" if state in LIVE else f"rewarm resume {found.id}"
        raise UserError(f"has no report yet: {state}", where=found.id, remedy=remedy)
    if recompute:
        _recompute(found, as_json)
    elif form == "table":
        print_result(found)
    elif form == "html":
        say(f"{found.report / _FILES[form]}")
    elif form == "json":
        print_json(_read_report(found))
    else:
        sys.stdout.write(plain(_report_file(found, _FILES[form]).decode()))


def _recompute(run: Run, as_json: bool) -> None:
    """Raise ``DataError`` where the report does not say what its items say."""
    from rewarm.report import items

    told = _read_report(run)
    scores = [items.read_scores(run.results / f"{name}.json") for name in ("baseline", "evaluate")]
    rows = items.recompute(told, *scores)
    if wrong := items.differences(told, rows):
        raise DataError("the report is not what its items say:\n" + "\n".join(wrong), where=run.report / "report.json")
    print_recomputed({"rows": len(rows), "items": sum(row["n"] for row in rows)}, as_json)


def print_recomputed(found: dict[str, int], as_json: bool) -> None:
    told = f"{found['rows']} rows computed again from {found['items']:,} items: all are as the report says"
    print_json(found) if as_json else say(told)


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A run, a version such as legal-vi@2, or: base")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="A run or a version.")],
    as_json: AsJson = False,
) -> None:
    """Compare two results, on the documents and items that both were scored on."""
    from rewarm.report import items
    from rewarm.report.compare import headline

    later = _run_of(after)
    earlier = later if before == "base" else _run_of(before)
    if earlier.id == later.id and before != "base":
        raise UserError("these are one and the same result", where=f"{before}, {after}", remedy="compare it with base")
    kept = earlier.results / ("baseline.json" if before == "base" else "evaluate.json")
    scores = items.read_scores(kept), items.read_scores(later.results / "evaluate.json")
    rows, notes = items.compare_scores(_read_report(later), *scores)
    found = {"before": before, "after": after, "rows": rows, "headline": headline(rows), "notes": notes}
    print_json(found) if as_json else print_comparison(found)


def print_comparison(found: dict[str, Any]) -> None:
    """What ``rewarm compare`` found."""
    from rewarm.report import words

    print_rows(found, f"{found['before']} and {found['after']}")
    for line in (*words.verdicts(found["rows"]), *words.notes(found["rows"]), *found["notes"]):
        say(line)


def _run_of(name: str) -> Run:
    """The run that is called so, or that published this version."""
    from rewarm.hub.models import find

    workspace = Workspace.default()
    if "@" not in name:
        return find_run(workspace, name)
    version = find(workspace.models, name)
    if (made_by := version.lineage.get("run")) is None:
        raise UserError("no run of this workspace made this version, so no items of it are kept", where=name)
    run = find_run(workspace, str(made_by))
    published = run.stage("publish")
    if (now := published and published["facts"]["version"]) != str(version):
        raise UserError(
            f"its run was trained again since, and keeps the items of {now or 'no version yet'}", where=name
        )
    return run


def _report_file(run: Run, name: str) -> bytes:
    """A file of the report as it was drawn. Raises ``DataError`` where it was changed since."""
    path = run.report / name
    data = path.read_bytes()
    if (record := run.stage("publish")) is not None and record["outputs"].get(f"report/{name}") != sha256_bytes(data):
        raise DataError("this report is damaged", where=path, remedy=f"rewarm resume {run.id} draws it again")
    return data


def _read_report(run: Run) -> dict[str, Any]:
    data = _report_file(run, "report.json")
    try:
        told: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:  # of a run that published nothing, where no record holds its hash
        remedy = f"rewarm resume {run.id} draws it again"
        raise DataError("this report is damaged", where=run.report / "report.json", remedy=remedy) from None
    return told


def conclude(run: Run, code: int, state: Event | None) -> int:
    """Say how a followed run ended, by its last ``state``, and what to do next; returns the exit code."""
    from rewarm.hub.models import find

    name = state["state"] if state else "lost"
    if code == 0 and (published := run.stage("publish")):
        print_result(run)
        version = find(run.workspace.models, published["facts"]["version"])
        say(f"model   {version}  in {version.path}")
        say(f"report  {run.report / 'report.html'}")
        say(f'next    rewarm models generate {version} "..."')
    elif state and name == "failed":
        sys.stderr.write(plain(f"rewarm: {state.get('reason')}\n"))
        if code == EXIT_BUG:
            sys.stderr.write(f"  this is our bug; the whole story is in {run.log}\n")
    elif name in ("stopped", "preempted"):
        say(f"{name}; go on with: {(state or {}).get('remedy') or f'rewarm resume {run.id}'}")
    elif code == EXIT_USAGE:
        sys.stderr.write(_tail(run.log, 3))
    elif code not in (0, EXIT_INTERRUPTED) and name != "succeeded":  # interrupted: the terminal left, the run goes on
        sys.stderr.write(f"rewarm: the run's process ended without a word; see {run.log}\n{_tail(run.log)}")
    return code


def _tail(path: Path, lines: int = 8) -> str:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "".join(f"  | {plain(line)}\n" for line in text[-lines:])


def print_result(run: Run) -> None:
    """The before/after table of a finished run, gain and forgetting apart."""
    print_rows(_read_report(run))


def print_rows(found: dict[str, Any], title: str = "before and after") -> None:
    """The before/after table of a report, and its headlines."""
    from rewarm.report import words

    cells = [words.result_cells(row) for row in found["rows"]]
    print_table(title, words.RESULT_HEADS, cells, right=(3, 4, 5, 6, 7, 8), spare=(8, 7, 2, 1))
    for line in words.headlines(found):
        interval = f" ({line.interval})" if line.interval else ""
        console().print(f"{line.title}: {line.figure}{interval} {line.text}")
    say("")
