"""The commands about models: ls, show, download, export, generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rewarm.cli.show import print_json, print_table, say
from rewarm.cli.start import AsJson, RunName
from rewarm.core.amounts import size
from rewarm.core.errors import UserError
from rewarm.core.run import find_run, read_launch
from rewarm.core.workspace import Workspace

if TYPE_CHECKING:
    from rewarm.hub.models import Version

app = typer.Typer(help="Models: versions in the Model Hub, and bases from elsewhere.", no_args_is_help=True)
Model = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, a folder, or a hub id.")]


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the versions in the Model Hub."""
    from rewarm.hub.models import list_models

    rows = [_row(version) for version in list_models(Workspace.default().models)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            "", ("model", "base", "run", "size"), [(r["model"], r["base"], r["run"], size(r["bytes"])) for r in rows]
        )
    else:
        say(f"no models in {Workspace.default().models} yet; a finished run publishes one")


def _row(version: Version) -> dict[str, Any]:
    row: dict[str, Any] = {"model": str(version), "base": "", "run": "", "bytes": None, "path": str(version.path)}
    try:
        lineage = version.lineage
        return row | {"base": lineage["base"]["reference"], "run": lineage.get("run", ""), "bytes": version.size}
    except (UserError, KeyError, TypeError) as error:  # the others can be listed all the same
        return row | {"base": f"damaged: {error.what if isinstance(error, UserError) else 'no such manifest'}"}


@app.command("show")
def show(model: Annotated[str, typer.Argument(metavar="NAME@VERSION")], as_json: AsJson = False) -> None:
    """Show a version: gain and forgetting, lineage, files, and whether every file is what was published."""
    from rewarm.hub.models import find
    from rewarm.report import words

    version = find(Workspace.default().models, model)
    version.verify()
    files = version.manifest["files"]
    file = version.path / "report" / "report.json"
    report = orjson.loads(file.read_bytes()) if file.is_file() else None  # it was verified just now
    if as_json:
        about = {"model": str(version), "path": str(version.path), "headline": report and report["headline"]}
        print_json({**about, "lineage": version.lineage, "files": files})
        return
    say(f"{version}: every file matches its SHA-256\n{version.path}\n")
    for line in words.headlines(report) if report else ():
        say(f"{line.title}: {line.figure} ({line.interval or 'no interval'}) {line.text}\n")
    print_table("lineage", ("what", "value"), [(k, _plain(v)) for k, v in version.lineage.items()])
    print_table("files", ("file", "size"), [(name, size(entry["bytes"])) for name, entry in files.items()], right=(1,))


def _plain(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


@app.command("download")
def download(model: Annotated[str, typer.Argument(metavar="HUB_ID", help="organisation/name")]) -> None:
    """Fetch a base model from the Hugging Face hub (weights in safetensors, tokenizer, configuration)."""
    from rewarm.cli.show import progress_bar
    from rewarm.models.folder import check_folder, fetch
    from rewarm.pipeline.base import hub_token

    with progress_bar() as progress:
        folder = fetch(model, progress, token=hub_token(Workspace.default()))
    check_folder(folder)
    say(f"{folder}")


@app.command("export")
def export(
    run: RunName,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    checkpoint: Annotated[str, typer.Option(help="step-N, or last.")] = "last",
) -> None:
    """Turn any checkpoint of a run into a Hugging Face folder, also while the run goes on."""
    from rewarm.pipeline.exports import export_run

    found = find_run(Workspace.default(), run)
    read_launch(found)
    folder = export_run(found, target, checkpoint)
    say(f"{folder}: checkpoint {checkpoint} of {found.id}, as a Hugging Face folder")


@app.command("seen")
def seen(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A file with the text after cleaning, or its hash.")],
    as_json: AsJson = False,
) -> None:
    """Tell which versions in the Model Hub have seen a text."""
    from rewarm.pipeline.ledger import mark_of, sightings

    mark = mark_of(text)
    found = list(sightings(Workspace.default(), mark))
    if as_json:
        print_json({"hash": mark.hex(), "seen": [sighting._asdict() for sighting in found]})
    elif found:
        rows = [
            (s.version, s.role, s.source, "" if s.document is None else str(s.document), _steps(s.steps)) for s in found
        ]
        print_table(mark.hex(), ("model", "", "source", "document", "updates"), rows)
    else:
        say(f"{mark.hex()}: no version here has seen this text")


def _steps(steps: list[int] | None) -> str:
    return "" if steps is None else ", ".join(map(str, steps)) or "none so far"


@app.command("generate")
def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue.")],
    tokens: Annotated[int, typer.Option(min=1, max=8192, help="Tokens to write at most.")] = 60,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 always takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed, with a temperature above 0.")] = 1309,
) -> None:
    """Let a model continue a text: a completion, not a chat."""
    if not prompt:
        raise UserError("the prompt is empty", remedy="give some text to continue")
    from rewarm.models.generate import generate as complete
    from rewarm.pipeline.base import locate
    from rewarm.recipe.facts import Machine

    workspace = Workspace.default()
    base = locate(model, workspace, lambda *progress: None)
    text = complete(
        base.folder,
        prompt,
        max_new_tokens=tokens,
        temperature=temperature,
        seed=seed,
        device=Machine.here().device("auto"),
    )
    say(prompt + text)
