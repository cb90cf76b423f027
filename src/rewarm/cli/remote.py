"""The same commands on a Studio elsewhere: with ``REWARM_URL`` set, these functions answer.

Each has the parameters of the command that it stands for. Paths of a recipe are then seen from the Studio's workspace:
texts come from its uploads and connections.
"""

from __future__ import annotations

import codecs
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import typer

from rewarm.cli.show import one_line, plain, print_json, print_table, progress_bar, say, sure
from rewarm.client import ENDED, Client
from rewarm.core.amounts import amount, duration, size
from rewarm.core.errors import EXIT_INTERRUPTED, EXIT_USAGE, UserError
from rewarm.core.events import Event
from rewarm.core.lines import figure, progress_line
from rewarm.core.run import Run, choose_run

_PART = 8 << 20


def answer_remotely(commands: Any) -> None:
    """Let the commands of a tree ask the Studio at ``REWARM_URL``; those about this computer alone stay as they are."""
    for name, command in _leaves(commands, ()):
        if name in _VERBS:
            command.callback = _bound(_VERBS[name])
        elif name[0] not in _LOCAL:
            command.callback = _refuse(" ".join(name))


def _leaves(group: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in getattr(group, "commands", {}).items():
        inner = _leaves(command, (*path, name))
        found += inner or [((*path, name), command)]
    return found


def _bound(verb: Callable[..., None]) -> Callable[..., None]:
    def call(**values: Any) -> None:
        client = Client.from_environment()  # here and not before, so that help needs no token
        assert client is not None
        verb(client, **values)

    return call


def _refuse(name: str) -> Callable[..., None]:
    def call(**_values: Any) -> None:
        raise UserError(f"rewarm {name} works on this computer's workspace only", remedy="unset REWARM_URL for it")

    return call


# -- runs ---------------------------------------------------------------------------------------------------------


def _find(client: Client, name: str) -> str:
    """The id of the run that a name means, by the rule that holds on the workspace itself."""
    rows = client.pages("/runs", "id", text=None if name == "last" else name)
    return choose_run(sorted((Run(Path(row["id"])) for row in rows), key=lambda run: run.id), name, client.url).id


def run(client: Client, recipe: Path, overrides: list[str] | None, detach: bool) -> None:
    from rewarm.recipe.load import read_text

    made = client.post("/runs", {"recipe": read_text(recipe), "overrides": overrides or []})
    _go_on(client, made["id"], 0, detach)


def resume(client: Client, run: str, from_stage: str | None, detach: bool, take_over: bool) -> None:
    if take_over:
        raise UserError("--take-over is for the workspace itself", remedy="unset REWARM_URL for it")
    found = _find(client, run)
    seen = 0
    while events := client.get(f"/runs/{found}/events", after=seen, limit=10_000):
        seen = events[-1]["seq"]
    client.post(f"/runs/{found}/resume", {"from_stage": from_stage})
    _go_on(client, found, seen, detach)


def _go_on(client: Client, run: str, after: int, detach: bool) -> None:
    if detach:
        say(f"{run}\n  follow it with: rewarm runs logs -f {run}")
        return
    raise typer.Exit(_follow(client, run, after, lambda: client.post(f"/runs/{run}/stop", {"reason": "Ctrl-C"})))


def _follow(client: Client, run: str, after: int, on_interrupt: Callable[[], object] | None) -> int:
    from rewarm.cli.follow import exit_code, watch

    why = None

    def news() -> tuple[list[Event], bool]:
        nonlocal after, why
        about = client.get(f"/runs/{run}")  # asked first: what has ended wrote its last event
        events = client.get(f"/runs/{run}/events", after=after, limit=1000)
        after = events[-1]["seq"] if events else after
        if about["state"] == "queued" and about["reason"] != why:  # the scheduler says it, and not the run's record
            why = about["reason"]
            events.append({"kind": "state", "state": "queued", "reason": why, "attempt": 0, "stage": ""})
        return events, about["state"] in ENDED and len(events) < 1000

    view, left = watch(run, news, on_interrupt, 0.5)
    if left:
        return EXIT_INTERRUPTED
    about = client.get(f"/runs/{run}")
    code = exit_code(about["state"], view.state)
    if about["state"] == "failed":
        sys.stderr.write(plain(f"rewarm: {about['reason']}\n"))
    elif about["state"] != "succeeded":
        say(f"{about['state']}; go on with: rewarm resume {run}")
    else:
        _print_report(client, run)
        say(f"model   {about['version']}\nnext    rewarm models download {about['version']}")
    return code


def stop(client: Client, run: str, wait: float, now: bool) -> None:
    found = _find(client, run)
    client.post(f"/runs/{found}/stop", {"reason": ""})
    until = time.monotonic() + wait
    while (state := client.get(f"/runs/{found}")["state"]) not in ENDED and time.monotonic() < until:
        time.sleep(0.5)
    say(f"{found}: {state}")


def runs_ls(client: Client, as_json: bool) -> None:
    rows = list(client.pages("/runs", "id"))
    if as_json:
        print_json(rows)
    elif rows:
        heads = ("run", "state", "stage", "attempt", "by", "size")
        cells = [
            [*(row[key] for key in ("id", "state", "stage", "attempt", "started_by")), size(row["bytes"])]
            for row in rows
        ]
        print_table("", heads, cells, right=(3, 5))
    else:
        say(f"no runs at {client.url} yet; start one with: rewarm run recipe.yaml")


def runs_show(client: Client, run: str, as_json: bool) -> None:
    found = _find(client, run)
    about = client.get(f"/runs/{found}")
    last = client.get(f"/runs/{found}/metrics")
    checkpoints = [each["name"] for each in client.get(f"/runs/{found}/checkpoints")]
    if as_json:
        print_json({**about, "metrics": {each["name"]: each["value"] for each in last}, "checkpoints": checkpoints})
        return
    say(f"{found}: {about['state']}" + (f" ({about['reason']})" if about["reason"] else ""))
    if about["state"] not in ENDED and about["progress"]:
        say(f"{about['stage']:12} {progress_line(about['progress'])}")
    if checkpoints:
        say(f"checkpoints  {', '.join(checkpoints)}")
    rows = [(each["name"], duration(each["seconds"]), "done" if each["done"] else "") for each in about["stages"]]
    print_table("", ("stage", "time", ""), rows, right=(1,))
    shown = [figure(each["name"], each["value"]) for each in last if not each["name"].startswith("system/")]
    if shown:
        print_table("last figures", ("figure", "value"), shown)
    if about["report"]:
        _print_report(client, found)


def runs_data(client: Client, run: str, step: int, as_json: bool) -> None:
    found = client.get(f"/runs/{_find(client, run)}/documents", step=step)
    if as_json:
        print_json(found)
        return
    keys = ("source", "document", "begin", "end", "length", "text")
    rows = [[str(each[key])[:60] for key in keys] for each in found["documents"]]
    print_table(f"step {step}", ("source", "document", "begin", "end", "length", "how it begins"), rows)


def runs_rm(client: Client, run: str, yes: bool) -> None:
    found = _find(client, run)
    sure(f"delete {found}?", yes)
    client.delete(f"/runs/{found}", confirm=found)
    say(f"{found}: deleted; what it published stays")


def runs_logs(client: Client, run: str, follow: bool, as_json: bool) -> None:
    found = _find(client, run)
    if as_json:
        after = 0
        while events := client.get(f"/runs/{found}/events", after=after, limit=10_000):
            after = events[-1]["seq"]
            for event in events:
                sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    elif follow:
        raise typer.Exit(_follow(client, found, 0, None))
    else:
        left = ""
        for text in codecs.iterdecode(client.read(f"/runs/{found}/log/download"), "utf-8", "replace"):
            *lines, left = (left + text).split("\n")
            for line in lines:
                say(line.rpartition("\r")[2])


def report(client: Client, run: str, form: str, recompute: bool, as_json: bool) -> None:
    from rewarm.cli.results import print_recomputed

    found = _find(client, run)
    form = "json" if as_json else form
    if recompute:
        print_recomputed(client.get(f"/runs/{found}/recomputed"), as_json)
    elif form == "table":
        _print_report(client, found)
    elif form == "html":
        path = Path(f"{found}.html")
        path.write_bytes(b"".join(client.read(f"/runs/{found}/report.html")))
        say(str(path))
    elif form in ("md", "json"):
        sys.stdout.write(plain(b"".join(client.read(f"/runs/{found}/report.{form}")).decode()))
    else:
        raise UserError(f"there is no format {form!r}", remedy="take one of: table, md, json, html")


def compare(client: Client, before: str, after: str, as_json: bool) -> None:
    from rewarm.cli.results import print_comparison

    names = [name if name == "base" or "@" in name else _find(client, name) for name in (before, after)]
    found = client.get("/runs/compare", before=names[0], after=names[1])
    print_json(found) if as_json else print_comparison(found)


def _print_report(client: Client, run: str) -> None:
    from rewarm.cli.results import print_rows

    print_rows(client.get(f"/runs/{run}/report.json"))


def check(client: Client, recipe: Path, overrides: list[str] | None, as_json: bool) -> None:
    from rewarm.cli.check import print_findings
    from rewarm.recipe.load import read_text

    body = {"recipe": read_text(recipe), "overrides": overrides or []}
    verdict = client.post("/recipe/check", body, estimate=True)
    if as_json:
        print_json(verdict["estimate"] or verdict)
    if not verdict["valid"]:
        for mistake in verdict["mistakes"]:
            sys.stderr.write(plain(f"rewarm: {mistake['message']}\n"))
        raise typer.Exit(EXIT_USAGE)
    if not as_json:
        print_findings(verdict["estimate"])
    raise typer.Exit(verdict["estimate"]["exit_code"])


# -- data ---------------------------------------------------------------------------------------------------------


def data_ls(client: Client, as_json: bool) -> None:
    rows, after = [], None
    while True:
        page = client.get("/datasets", after=after, limit=500)
        rows += page["datasets"]
        if (after := page["after"]) is None:
            break
    if as_json:
        print_json(rows)
        return
    for title, found in (("datasets", rows), ("uploaded texts", client.get("/texts"))):
        if not found:
            say(f"no {title} at {client.url} yet")
        elif title == "datasets":
            cells = [
                (r["dataset"], ", ".join(r["sources"]), amount(r["documents"]), amount(r["tokens"])) for r in found
            ]
            print_table(title, ("dataset", "sources", "documents", "tokens"), cells, right=(2, 3))
        else:
            cells = [(r["text"], r["path"], str(len(r["files"])), size(r["bytes"])) for r in found]
            print_table(title, ("text", "path in a recipe", "files", "size"), cells, right=(2, 3))


def data_show(client: Client, name: str, samples: int, rows: int, as_json: bool) -> None:
    from rewarm.report import words

    about = client.get(f"/datasets/{name}")
    seen = client.get(f"/datasets/{name}/rows", count=rows) if rows else []
    if as_json:
        print_json({**about, **({"rows": seen} if rows else {})})
        return
    print_table(f"dataset {name}", *words.data_rows([text["figures"] for text in about["texts"]]), right=range(2, 10))
    for line in about["notes"]:
        say(line)
    for number, segments in enumerate(seen):
        say(f"row {number}")
        for each in segments:
            say(
                f"--- {each['source']} #{each['document']}, tokens {each['begin']} to {each['end']} of {each['length']}"
            )
            say(each["text"])


def data_upload(client: Client, files: list[Path], text: str) -> None:
    with progress_bar() as progress:
        for path in files:
            _upload(client, path, text, progress)
    where = next(each["path"] for each in client.get("/texts") if each["text"] == text)
    say(f"{len(files)} files are there; in a recipe: {{name: {text}, path: {where}}}")


def _upload(client: Client, path: Path, text: str, progress: Callable[[str, float, float, str], None]) -> None:
    """Send a file; one that broke off before goes on where it ended."""
    total = path.stat().st_size
    begun = [
        each
        for each in client.get("/uploads")
        if (each["text"], each["file"], each["bytes"]) == (text, path.name, total)
    ]
    upload = begun[0] if begun else client.post("/uploads", {"text": text, "file": path.name, "bytes": total})
    with path.open("rb") as file:
        file.seek(upload["offset"])
        while part := file.read(_PART):
            offset = file.tell() - len(part)
            client.send(f"/uploads/{upload['id']}", part, offset=offset)
            progress(path.name, file.tell(), total, "bytes")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    client.post(f"/uploads/{upload['id']}/finish", {"sha256": digest})


# -- models -------------------------------------------------------------------------------------------------------


def models_ls(client: Client, as_json: bool) -> None:
    rows = list(client.pages("/models", "model"))
    if as_json:
        print_json(rows)
    elif rows:
        cells = [
            (r["model"], ", ".join(r["aliases"]), r["base"] or r["imported"] or "", r["run"] or "", size(r["bytes"]))
            for r in rows
        ]
        print_table("", ("model", "aliases", "base", "run", "size"), cells, right=(4,))
    else:
        say(f"no models at {client.url} yet; a finished run publishes one")


def models_show(client: Client, model: str, as_json: bool) -> None:
    about = client.get(f"/models/{model}")
    if as_json:
        print_json(about)
        return
    say(f"{about['model']}" + (f" ({', '.join(about['aliases'])})" if about["aliases"] else ""))
    lineage = [
        (key, value if isinstance(value, str) else orjson.dumps(value).decode())
        for key, value in about["lineage"].items()
    ]
    print_table("lineage", ("what", "value"), lineage)
    print_table("files", ("file", "size"), [(f["name"], size(f["bytes"])) for f in about["files"]], right=(1,))


def models_download(
    client: Client, model: str, to: Path | None, include: list[str] | None, exclude: list[str] | None
) -> None:
    from rewarm.hub.transfer import chosen, download

    about = client.get(f"/models/{model}")
    files = chosen({each["name"]: each for each in about["files"]}, include, exclude)
    target = to or Path(f"{about['name']}-{about['number']}")
    with progress_bar() as progress:
        download(files, lambda name, at: client.read(f"/models/{about['model']}/files/{name}", at), target, progress)
    say(f"{target}: {len(files)} files of {about['model']}, each matches its SHA-256")


def models_generate(client: Client, model: str, prompt: str, tokens: int, temperature: float, seed: int) -> None:
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": temperature, "seed": seed}
    say(prompt + client.complete(body)["choices"][0]["text"])


def models_export(client: Client, run: str, target: Path, checkpoint: str) -> None:
    raise UserError(
        "a checkpoint cannot be exported to this computer", remedy="publish it, then: rewarm models download NAME@N"
    )


def models_import(client: Client, source: str, name: str, as_json: bool) -> None:
    done = _transferred(client, client.post("/models/imports", {"source": source, "name": name}))
    print_json(done) if as_json else say(done["model"])


def models_push(client: Client, model: str, hub_id: str, connection: str | None, public: bool, as_json: bool) -> None:
    asked = {"hub_id": hub_id, "connection": connection, "public": public}
    done = _transferred(client, client.post(f"/models/{model}/push", asked))
    print_json(done) if as_json else say(done["address"])


def models_gguf(client: Client, model: str, file: Path, kind: str, as_json: bool) -> None:
    made = client.post(f"/models/{model}/gguf", {"type": kind})
    _transferred(client, made)
    with file.open("xb") as target:
        target.writelines(client.read(f"/transfers/{made['id']}/file"))
    print_json({"file": str(file)}) if as_json else say(str(file))


def _transferred(client: Client, transfer: dict[str, Any]) -> dict[str, Any]:
    """What a transfer came to, once it has ended."""
    with progress_bar() as progress:
        while transfer["state"] == "running":
            time.sleep(0.5)
            transfer = client.get(f"/transfers/{transfer['id']}")
            if told := transfer["progress"]:
                progress(told["what"], told["done"], told["total"], told["unit"])
    if transfer["state"] == "failed":
        raise UserError(transfer["error"], where=transfer["what"], remedy=transfer["remedy"])
    return transfer["result"] or {}


def models_alias(client: Client, model: str, name: str, remove: bool) -> None:
    about = client.get(f"/models/{model}")
    path = f"/models/{about['name']}/aliases/{name}"
    client.delete(path) if remove else client.put(path, {"version": about["number"]})
    say(f"{about['name']}@{name}: {'nothing now' if remove else about['model']}")


def models_gate(client: Client, name: str, alias: str, forgetting: float | None, gain: float | None) -> None:
    client.put(f"/models/{name}/gates/{alias}", {"most_forgetting": forgetting, "least_gain": gain})
    say(f"{name}@{alias} demands: forgetting at most {forgetting}, gain more than {gain}")


def models_lineage(client: Client, model: str, as_json: bool) -> None:
    graph = client.get(f"/models/{model}/lineage")
    if as_json:
        print_json(graph)
    else:
        print_table("", ("from", "to"), [(edge["source"], edge["target"]) for edge in graph["edges"]])


# -- connections --------------------------------------------------------------------------------------------------


def connections_ls(client: Client, as_json: bool) -> None:
    rows = client.get("/connections")
    if as_json:
        print_json(rows)
    elif rows:
        cells = [(r["name"], r["kind"] or "", r["endpoint"] or r["problem"] or "the usual one") for r in rows]
        print_table("", ("connection", "kind", "address"), cells)
    else:
        say("no connections yet; make one with: rewarm connections add s3 NAME")


def connections_add(client: Client, **given: Any) -> None:
    from rewarm.cli.connections import another_secret, described

    name, values = described(**given)
    known = {row["name"]: row for row in client.get("/connections")}
    if name in known and (new := another_secret(known[name], values)):
        client.put(f"/connections/{name}/secret", new)
        say(f"connection {name} has another secret now; try it with: rewarm connections test {name}")
        return
    client.post("/connections", {"name": name, "connection": values})
    say(f"connection {name} added; try it with: rewarm connections test {name}")


def connections_test(client: Client, name: str, place: str | None, as_json: bool) -> None:
    found = client.post(f"/connections/{name}/test", uri=place)
    if as_json:
        print_json({"connection": name, **found})
    else:
        say(f"{name} works: {found['entries']} entries in {found['seconds']:.2f} s")


def connections_browse(client: Client, name: str, place: str, as_json: bool) -> None:
    rows, after = [], None
    while True:
        page = client.get(f"/connections/{name}/entries", uri=place, after=after, limit=1000)
        rows += page["entries"]
        if (after := page["after"]) is None:
            break
    if as_json:
        print_json(rows)
    elif rows:
        cells = [(one_line(r["uri"]), "" if r["bytes"] is None else size(r["bytes"])) for r in rows]
        print_table("", ("uri", "size"), cells, right=(1,))
    else:
        say("there is nothing")


def connections_preview(
    client: Client, name: str, place: str, documents: int, text_column: str | None, as_json: bool
) -> None:
    from rewarm.cli.data import print_preview

    query = {"uri": place, "documents": documents, "text_column": text_column}
    print_preview(client.get(f"/connections/{name}/preview", **query), as_json)


def connections_rm(client: Client, name: str) -> None:
    client.delete(f"/connections/{name}")
    say(f"connection {name} removed")


# -- housekeeping -------------------------------------------------------------------------------------------------


def clean(client: Client, yes: bool, as_json: bool, **options: Any) -> None:
    from rewarm.cli.clean import rules_of, show_and_clean

    rules, where = rules_of(**options), "/housekeeping"
    items = client.post(f"{where}/preview", rules)
    show_and_clean(items, lambda: list(client.post(f"{where}/clean", rules)), yes, as_json)


_VERBS: dict[tuple[str, ...], Callable[..., None]] = {
    ("run",): run,
    ("check",): check,
    ("clean",): clean,
    ("resume",): resume,
    ("stop",): stop,
    ("report",): report,
    ("compare",): compare,
    ("runs", "ls"): runs_ls,
    ("runs", "show"): runs_show,
    ("runs", "data"): runs_data,
    ("runs", "logs"): runs_logs,
    ("runs", "rm"): runs_rm,
    ("data", "ls"): data_ls,
    ("data", "show"): data_show,
    ("data", "upload"): data_upload,
    ("models", "ls"): models_ls,
    ("models", "show"): models_show,
    ("models", "download"): models_download,
    ("models", "generate"): models_generate,
    ("models", "export"): models_export,
    ("models", "import"): models_import,
    ("models", "push"): models_push,
    ("models", "gguf"): models_gguf,
    ("models", "alias"): models_alias,
    ("models", "gate"): models_gate,
    ("models", "lineage"): models_lineage,
    ("connections", "ls"): connections_ls,
    ("connections", "add"): connections_add,
    ("connections", "test"): connections_test,
    ("connections", "browse"): connections_browse,
    ("connections", "preview"): connections_preview,
    ("connections", "rm"): connections_rm,
}
_LOCAL = frozenset({"import", "studio", "backup", "restore", "quickstart"})
"""Commands that are about this computer, whatever REWARM_URL says."""
