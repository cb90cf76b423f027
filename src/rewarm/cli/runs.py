"""The commands about runs: resume, stop, report, and runs ls | show | logs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rewarm.cli.show import console, print_json, print_table
from rewarm.cli.start import AsJson, begin
from rewarm.core.amounts import duration
from rewarm.core.errors import EXIT_USAGE, UserError
from rewarm.core.events import metrics, read_events
from rewarm.core.run import STAGES, Run, find_run, list_runs, terminate
from rewarm.core.states import LIVE
from rewarm.core.workspace import Workspace

app = typer.Typer(help="What runs there are, what one did, what it says.", no_args_is_help=True)
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a part of it, or: last", show_default=False)]


def resume(
    run: RunName,
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help=f"Run again from one of: {', '.join(STAGES)}.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave the run to itself.")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Also where a computer that is gone said last that it works on the run.")
    ] = False,
) -> None:
    """Go on with a run that was stopped, failed or lost; finished stages are kept."""
    if from_stage is not None and from_stage not in STAGES:
        raise UserError(f"there is no stage {from_stage!r}", remedy=f"take one of: {', '.join(STAGES)}")
    found = find_run(Workspace.default(), run)
    raise typer.Exit(begin(found, ["--from", from_stage] if from_stage else [], detach, take_over))


def stop(
    run: RunName,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the end; 0 returns at once.")] = 60.0,
    now: Annotated[bool, typer.Option("--now", help="Send SIGTERM as well.")] = False,
) -> None:
    """Ask a run to write a checkpoint and end."""
    found = find_run(Workspace.default(), run)
    if (state := found.status().state) not in LIVE:
        raise UserError(f"is not running: {state}", where=found.id, remedy="rewarm runs ls")
    found.request_stop()
    if now:
        terminate(found)
    until = time.monotonic() + wait
    while (state := found.status().state) in LIVE and time.monotonic() < until:
        time.sleep(0.2)
    sys.stdout.write(f"{found.id}: {state}\n")
    if state in LIVE and wait:
        raise UserError(f"still {state} after {wait:.0f} s", where=found.id, remedy="wait, or rewarm stop --now")


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the runs of the workspace, the newest first."""
    rows = [_summary(found) for found in reversed(list_runs(Workspace.default()))]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("run", "state", "stage", "attempt", "progress")
        print_table("", columns, [[row[column] for column in columns] for row in rows])
    else:
        sys.stdout.write(f"no runs in {Workspace.default().runs} yet; start one with: rewarm run recipe.yaml\n")


def _summary(run: Run) -> dict[str, Any]:
    status = run.status()
    progress = status.progress
    text = f"{100 * progress['done'] / progress['total']:.0f} %" if progress and progress["total"] else ""
    if status.state == "succeeded":
        text = "100 %"
    return {
        "run": run.id,
        "state": status.state,
        "stage": status.stage,
        "attempt": status.attempt,
        "progress": text,
        "reason": status.reason,
    }


@app.command("show")
def show(run: RunName, as_json: AsJson = False) -> None:
    """Show a run: its state, its stages, its last figures, where its files are."""
    found = find_run(Workspace.default(), run)
    summary = _summary(found)
    points = metrics(event for event, _ in read_events(found.events))
    last = {name: values[-1][2] for name, values in sorted(points.items())}
    stages = {stage: _seconds(found, stage) for stage in STAGES}
    checkpoints = sorted((path.name for path in found.checkpoints.glob("step-*")), key=lambda name: (len(name), name))
    if as_json:
        print_json({**summary, "path": str(found.path), "stages": stages, "metrics": last, "checkpoints": checkpoints})
        return
    out = console()
    out.print(f"{found.id}: {summary['state']}" + (f" ({summary['reason']})" if summary["reason"] else ""))
    out.print(f"folder       {found.path}")
    if checkpoints:
        out.print(f"checkpoints  {', '.join(checkpoints)}")
    out.print()
    print_table("", ("stage", "time"), [(name, duration(t) if t is not None else "-") for name, t in stages.items()])
    if last:
        print_table("last figures", ("metric", "value"), [(k, f"{v:.6g}") for k, v in last.items()], right=(1,))
    if found.report.joinpath("report.json").is_file():
        print_result(found)


def _seconds(run: Run, stage: str) -> float | None:
    path = run.stage_record(stage)
    return float(orjson.loads(path.read_bytes())["seconds"]) if path.is_file() else None


@app.command("logs")
def logs(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and show progress until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events, one JSON object a line.")] = False,
) -> None:
    """Print a run's log; with -f, follow the run (Ctrl-C leaves it alone)."""
    from rewarm.cli.follow import follow as follow_run

    found = find_run(Workspace.default(), run)
    if as_json:
        for event, _ in read_events(found.events):
            sys.stdout.write(orjson.dumps(event).decode() + "\n")
    elif follow:
        code, view = follow_run(found, 0, None)
        raise typer.Exit(conclude(found, code, view))
    elif found.log.exists():
        sys.stdout.write(found.log.read_text(errors="replace"))


def report(
    run: RunName,
    form: Annotated[str, typer.Option("--format", help="table, md, json, html (the path of the page).")] = "table",
    as_json: AsJson = False,
) -> None:
    """Show what a run learned and what it forgot."""
    found = find_run(Workspace.default(), run)
    form = "json" if as_json else form
    files = {"md": "report.md", "json": "report.json", "html": "report.html"}
    if form not in ("table", *files):
        raise UserError(f"there is no format {form!r}", remedy="take one of: table, md, json, html")
    if not found.report.joinpath("report.json").is_file():
        raise UserError(
            f"has no report yet: {found.status().state}", where=found.id, remedy=f"rewarm resume {found.id}"
        )
    if form == "table":
        print_result(found)
    elif form == "html":
        sys.stdout.write(f"{found.report / files[form]}\n")
    else:
        sys.stdout.write((found.report / files[form]).read_text())


def conclude(run: Run, code: int, view: Any) -> int:
    """Say how a followed run ended, and what to do next; returns the exit code."""
    from rewarm.hub.models import find

    state = view.state["state"] if view.state else "lost"
    published = run.stage_record("publish")
    if code == 0 and published.is_file():
        print_result(run)
        model = orjson.loads(published.read_bytes())["facts"]
        version = find(Workspace(run.path.parent.parent).models, model["version"])
        sys.stdout.write(
            f"model   {version}  in {version.path}\n"
            f"report  {run.report / 'report.html'}\n"
            f'next    rewarm models generate {model["version"]} "..."\n'
        )
    elif state == "failed":
        sys.stderr.write(f"rewarm: {view.state['reason']}\n")
        if code == 1:
            sys.stderr.write(f"  this is our bug; the whole story is in {run.log}\n")
    elif state in ("stopped", "preempted"):
        sys.stdout.write(f"{state}; go on with: rewarm resume {run.id}\n")
    elif code == EXIT_USAGE:
        sys.stderr.write(_tail(run.log, 3))
    elif code != 0 and state != "succeeded":
        sys.stderr.write(f"rewarm: the run's process ended without a word; see {run.log}\n{_tail(run.log)}")
    return code


def _tail(path: Path, lines: int = 8) -> str:
    text = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "".join(f"  | {line}\n" for line in text[-lines:])


def print_result(run: Run) -> None:
    """The before/after table of a finished run, gain and forgetting apart."""
    from rewarm.pipeline import words

    found = orjson.loads((run.report / "report.json").read_bytes())
    cells = [words.result_cells(row) for row in found["rows"]]
    print_table("before and after", words.RESULT_HEADS, cells, right=(3, 4, 5, 6, 7, 8))
    for line in words.headlines(found):
        console().print(
            f"{line.title}: {line.figure}" + (f" ({line.interval})" if line.interval else "") + f" {line.text}"
        )
    sys.stdout.write("\n")
