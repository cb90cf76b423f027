"""The commands about runs: resume, stop, and runs ls | show | data | logs | rm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
import typer

from rewarm.cli.options import AsJson, Detach, RunName, Yes
from rewarm.cli.results import conclude, print_result
from rewarm.cli.show import console, print_json, print_list, print_table, say, sure
from rewarm.cli.start import begin
from rewarm.core.amounts import duration, size
from rewarm.core.control import remove_run, stop_run, terminate
from rewarm.core.errors import DataError, UserError
from rewarm.core.events import TRAINING_FROM, Event, all_events, metrics
from rewarm.core.lines import figure, progress_line
from rewarm.core.run import STAGES, Run, Status, find_run, list_runs
from rewarm.core.states import LIVE
from rewarm.core.storage import bytes_of
from rewarm.core.workspace import Workspace

app = typer.Typer(help="What runs there are, what one did, what it says.", no_args_is_help=True)


def resume(
    run: RunName,
    from_stage: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE|CHECKPOINT",
            help=f"Do this stage and those after it again ({', '.join(STAGES)}), or train on from this checkpoint "
            "(step-100); later checkpoints are given up.",
        ),
    ] = None,
    detach: Detach = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Even if a computer that is gone now worked on it last."),
    ] = False,
) -> None:
    """Go on with a run that was stopped, failed or lost; finished stages are kept."""
    found = find_run(Workspace.default(), run)
    if from_stage is not None:
        found.check_beginning(from_stage)
    raise typer.Exit(begin(found, ["--from", from_stage] if from_stage else [], detach, take_over))


def stop(
    run: RunName,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the end.")] = 60.0,
    now: Annotated[bool, typer.Option("--now", help="Send SIGTERM as well; a checkpoint is still written.")] = False,
) -> None:
    """Ask a run to write a checkpoint and end, and wait until it has.

    The wish stands however long that takes: after --wait seconds this says so, and ends with 0 all the same.
    """
    found = find_run(Workspace.default(), run)
    if (state := found.status().state) not in LIVE:
        raise UserError(f"is not running: {state}", where=found.id, remedy="rewarm runs ls")
    stop_run(found)
    if now:
        terminate(found)
    until = time.monotonic() + wait
    # Until the process is gone too, so that the run can be resumed or removed right after.
    while ((state := found.status().state) in LIVE or found.alive()) and time.monotonic() < until:
        time.sleep(0.1)
    say(f"{found.id}: {state}")
    if state in LIVE:
        say(f"  it ends by itself; follow it with: rewarm runs logs -f {found.id}")


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the runs of the workspace, the newest first."""
    rows = [_row(found) for found in reversed(list_runs(Workspace.default()))]
    heads = ("run", "state", "stage", "done of the stage", "attempt", "size")
    empty = f"no runs in {Workspace.default().runs} yet; start one with: rewarm run recipe.yaml"
    keys = ("run", "state", "stage", "progress", "attempt")
    print_list(rows, as_json, heads, lambda row: [*(row[key] for key in keys), size(row["bytes"])], empty, (3, 4, 5))
    for row in rows if not as_json else ():
        if row["state"] == "damaged":
            say(f"{row['run']}: {row['reason']}")


def _row(run: Run) -> dict[str, Any]:
    """One run in the list; a damaged one does not hide the others."""
    try:
        return {**_summary(run, run.status()), "bytes": bytes_of(run.path)}
    except (UserError, OSError) as error:
        damaged = {"state": "damaged", "stage": "", "attempt": "", "progress": "", "reason": str(error), "bytes": None}
        return {"run": run.id, **damaged}


def _summary(run: Run, status: Status) -> dict[str, Any]:
    progress = status.progress
    within = status.state in LIVE and progress and progress["stage"] == status.stage and progress["total"] > 1
    return {
        "run": run.id,
        "state": status.state,
        "stage": status.stage,
        "attempt": status.attempt,
        "progress": f"{100 * progress['done'] / progress['total']:.0f} %" if within and progress else "",
        "reason": status.reason if status.reason != status.state else None,
    }


@app.command("show")
def show(run: RunName, as_json: AsJson = False) -> None:
    """Show a run: its state, its stages, its last figures, where its files are."""
    found = find_run(Workspace.default(), run)
    status = found.status()
    summary = _summary(found, status)
    events = list(all_events(found.events))
    last = {name: values[-1][2] for name, values in sorted(metrics(iter(events)).items())}
    seconds = _stage_seconds(events)
    checkpoints = sorted((path.name for path in found.checkpoints.glob("step-*")), key=lambda name: (len(name), name))
    if as_json:
        stages = {stage: seconds.get(stage) for stage in STAGES}
        print_json({**summary, "path": str(found.path), "stages": stages, "metrics": last, "checkpoints": checkpoints})
        return
    out = console()
    out.print(f"{found.id}: {summary['state']}" + (f" ({summary['reason']})" if summary["reason"] else ""))
    if status.state in LIVE and status.progress:
        out.print(f"{status.stage:12} {progress_line(status.progress)}")
    out.print(f"folder       {found.path}, {size(bytes_of(found.path))}")
    if checkpoints:
        out.print(f"checkpoints  {', '.join(checkpoints)}")
    rows = [(stage, duration(seconds.get(stage)), _stage_word(found, status, stage)) for stage in STAGES]
    print_table("", ("stage", "time, all attempts", ""), rows, right=(1,))
    if last:
        print_table("last figures", ("figure", "value"), [figure(*item) for item in last.items()])
    if found.report.joinpath("report.json").is_file():
        print_result(found)


def _stage_word(run: Run, status: Status, stage: str) -> str:
    try:
        done = run.stage(stage) is not None
    except DataError as error:
        return f"{error.where} is damaged; {error.remedy}"
    return "done" if done else "in work" if status.state in LIVE and stage == status.stage else ""


def _stage_seconds(events: Iterable[Event]) -> dict[str, float]:
    """How long each stage was worked on, over all attempts; a training that was given up does not count."""
    spans: dict[str, dict[int, tuple[float, float]]] = {}
    for event in events:
        stage, attempt, now = event["stage"], event["attempt"], event["time"]
        if event["kind"] == "result" and event["name"] == TRAINING_FROM and event["value"] == 0:
            spans.pop("train", None)
        if stage:
            of_stage = spans.setdefault(stage, {})
            of_stage[attempt] = (of_stage.get(attempt, (now, now))[0], now)
    return {stage: sum(end - start for start, end in attempts.values()) for stage, attempts in spans.items()}


@app.command("data")
def data(
    run: RunName,
    step: Annotated[int, typer.Option(min=1, help="The update, from 1.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Show which documents went into an update of a run, or will."""
    from rewarm.pipeline.ledger import documents_of

    found, kept = documents_of(find_run(Workspace.default(), run), step)
    if as_json:
        print_json({"step": step, "kept": kept, "documents": found})
        return
    rows = [
        (p["source"], str(p["document"]), f"{p['begin']} to {p['end']} of {p['length']}", p["text"][:60]) for p in found
    ]
    print_table(f"step {step}", ("source", "document", "tokens", "how it begins"), rows)
    if not kept:
        say("this update left no trace in the weights: training went back to a checkpoint from before it")


@app.command("rm")
def rm(run: RunName, yes: Yes = False) -> None:
    """Delete a run with its checkpoints and its report. What it published, and its dataset, stay."""
    found = find_run(Workspace.default(), run)
    freed = size(bytes_of(found.path, sole=True))
    sure(f"delete {found.id} and free {freed}?", yes)
    remove_run(found)
    say(f"{found.id}: deleted, {freed} freed; what it published stays")


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
        for event in all_events(found.events):
            sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    elif follow:
        code, view = follow_run(found, 0, None)
        raise typer.Exit(conclude(found, code, view.state))
    elif found.log.exists():
        # Progress bars of libraries draw a line again and again; the last picture is kept.
        for line in found.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            say(line.rpartition("\r")[2])
