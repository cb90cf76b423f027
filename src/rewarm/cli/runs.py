"""The commands about runs: resume, stop, report, and runs ls | show | logs | rm."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rewarm.cli.show import console, plain, print_json, print_table, say
from rewarm.cli.start import AsJson, RunName, begin
from rewarm.core.amounts import duration, size
from rewarm.core.errors import EXIT_INTERRUPTED, EXIT_USAGE, DataError, UserError
from rewarm.core.events import TRAINING_FROM, Event, all_events, metrics
from rewarm.core.lines import figure, progress_line
from rewarm.core.run import STAGES, Run, Status, find_run, list_runs, remove_run, stop_run, terminate
from rewarm.core.states import LIVE
from rewarm.core.storage import bytes_of, sha256_bytes
from rewarm.core.workspace import Workspace

app = typer.Typer(help="What runs there are, what one did, what it says.", no_args_is_help=True)


def resume(
    run: RunName,
    from_stage: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            help=f"Do this stage and those after it again. There are: {', '.join(STAGES)}.",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start in the background and return.")] = False,
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
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the end.")] = 60.0,
    now: Annotated[bool, typer.Option("--now", help="Send SIGTERM as well; the checkpoint is still written.")] = False,
) -> None:
    """Ask a run to write a checkpoint and end, and wait until it has.

    The wish stands however long that takes: the exit code is 0 also where the run is still stopping after --wait
    seconds, and the line that is printed says so.
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
    if as_json:
        print_json(rows)
    elif rows:
        heads = ("run", "state", "stage", "done of the stage", "attempt", "size")
        keys = ("run", "state", "stage", "progress", "attempt")
        print_table("", heads, [[*(row[key] for key in keys), size(row["bytes"])] for row in rows], right=(3, 4, 5))
        for row in rows:
            if row["state"] == "damaged":
                say(f"{row['run']}: {row['reason']}")
    else:
        say(f"no runs in {Workspace.default().runs} yet; start one with: rewarm run recipe.yaml")


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
def rm(run: RunName, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a run with its checkpoints and its report. What it published, and its dataset, stay."""
    found = find_run(Workspace.default(), run)
    freed = size(bytes_of(found.path, sole=True))
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UserError("this deletes a run, and there is no terminal to ask on", where=found.id, remedy="--yes")
        typer.confirm(f"delete {found.id} and free {freed}?", abort=True)
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
        raise typer.Exit(conclude(found, code, view))
    elif found.log.exists():
        # Progress bars of libraries draw a line again and again; the last picture is kept.
        for line in found.log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            say(line.rpartition("\r")[2])


def report(
    run: RunName,
    form: Annotated[str, typer.Option("--format", help="table, md, json, html (the path of the page).")] = "table",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute the table again from the kept items, and hold it against it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run learned and what it forgot."""
    found = find_run(Workspace.default(), run)
    form = "json" if as_json else form
    files = {"md": "report.md", "json": "report.json", "html": "report.html"}
    if form not in ("table", *files):
        raise UserError(f"there is no format {form!r}", remedy="take one of: table, md, json, html")
    if not found.report.joinpath("report.json").is_file():
        state = found.status().state
        remedy = f"rewarm runs logs -f {found.id}" if state in LIVE else f"rewarm resume {found.id}"
        raise UserError(f"has no report yet: {state}", where=found.id, remedy=remedy)
    if recompute:
        _recompute(found)
    elif form == "table":
        print_result(found)
    elif form == "html":
        say(f"{found.report / files[form]}")
    elif form == "json":
        print_json(orjson.loads(_report_file(found, files[form])))
    else:
        sys.stdout.write(plain(_report_file(found, files[form]).decode()))


def _recompute(run: Run) -> None:
    """Raise ``DataError`` where the report does not say what its items say."""
    from rewarm.report import items

    told = orjson.loads(_report_file(run, "report.json"))
    rows = items.recompute(
        told, *(items.read_scores(run.results / f"{name}.json") for name in ("baseline", "evaluate"))
    )
    if wrong := items.differences(told, rows):
        raise DataError("the report is not what its items say:\n" + "\n".join(wrong), where=run.report / "report.json")
    scored = sum(row["n"] for row in rows)
    say(f"{len(rows)} rows computed again from {scored:,} items: all are as the report says")


def compare(
    before: Annotated[str, typer.Argument(help="A run, a published version such as legal-vi@2, or base.")],
    after: Annotated[str, typer.Argument(help="A run or a published version.")],
    as_json: AsJson = False,
) -> None:
    """Compare two results, on the documents and items that both were scored on."""
    from rewarm.report import items, words
    from rewarm.report.compare import headline

    workspace = Workspace.default()
    later = _run_of(workspace, after)
    earlier = later if before == "base" else _run_of(workspace, before)
    if earlier.id == later.id and before != "base":
        raise UserError("these are one and the same result", where=f"{before}, {after}", remedy="compare it with base")
    told = orjson.loads(_report_file(later, "report.json"))
    kept = earlier.results / ("baseline.json" if before == "base" else "evaluate.json")
    rows, notes = items.compare_scores(
        told, items.read_scores(kept), items.read_scores(later.results / "evaluate.json")
    )
    found = {"before": before, "after": after, "rows": rows, "headline": headline(rows), "notes": notes}
    if as_json:
        print_json(found)
        return
    print_rows(found, f"{before} and {after}")
    for line in (*words.verdicts(rows), *words.notes(rows), *notes):
        say(line)


def _run_of(workspace: Workspace, name: str) -> Run:
    """The run that is called so, or that published this version."""
    from rewarm.hub.models import find

    run = find(workspace.models, name).lineage.get("run") if "@" in name else name
    if run is None:
        raise UserError("no run of this workspace made this version, so no items of it are kept", where=name)
    return find_run(workspace, str(run))


def _report_file(run: Run, name: str) -> bytes:
    """A file of the report as it was drawn. Raises ``DataError`` where it was changed since."""
    path, record = run.report / name, None
    data = path.read_bytes()
    problem = DataError("this report is damaged", where=path, remedy=f"rewarm resume {run.id} draws it again")
    if (record := run.stage("publish")) is not None:
        if record["outputs"].get(f"report/{name}") != sha256_bytes(data):
            raise problem
    elif name == "report.json":
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            raise problem from None
    return data


def conclude(run: Run, code: int, view: Any) -> int:
    """Say how a followed run ended, and what to do next; returns the exit code."""
    from rewarm.hub.models import find

    state = view.state["state"] if view.state else "lost"
    if code == 0 and (published := run.stage("publish")):
        print_result(run)
        version = find(Workspace(run.path.parent.parent).models, published["facts"]["version"])
        say(f"model   {version}  in {version.path}")
        say(f"report  {run.report / 'report.html'}")
        say(f'next    rewarm models generate {version} "..."')
    elif state == "failed":
        sys.stderr.write(plain(f"rewarm: {view.state.get('reason')}\n"))
        if code == 1:
            sys.stderr.write(f"  this is our bug; the whole story is in {run.log}\n")
    elif state in ("stopped", "preempted"):
        say(f"{state}; go on with: rewarm resume {run.id}")
    elif code == EXIT_INTERRUPTED:
        pass  # the terminal has left, the run goes on
    elif code == EXIT_USAGE:
        sys.stderr.write(_tail(run.log, 3))
    elif code != 0 and state != "succeeded":
        sys.stderr.write(f"rewarm: the run's process ended without a word; see {run.log}\n{_tail(run.log)}")
    return code


def _tail(path: Path, lines: int = 8) -> str:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return "".join(f"  | {plain(line)}\n" for line in text[-lines:])


def print_result(run: Run) -> None:
    """The before/after table of a finished run, gain and forgetting apart."""
    print_rows(orjson.loads(_report_file(run, "report.json")))


def print_rows(found: dict[str, Any], title: str = "before and after") -> None:
    """The before/after table of a report, and its headlines."""
    from rewarm.report import words

    cells = [words.result_cells(row) for row in found["rows"]]
    print_table(title, words.RESULT_HEADS, cells, right=(3, 4, 5, 6, 7, 8))
    for line in words.headlines(found):
        console().print(
            f"{line.title}: {line.figure}" + (f" ({line.interval})" if line.interval else "") + f" {line.text}"
        )
    say("")
