"""The commands about models: what there is, in and out, aliases and tags, completions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rewarm.cli.options import AsJson, RunName
from rewarm.cli.show import answer, print_json, print_list, print_table, progress_bar, say
from rewarm.core.amounts import size
from rewarm.core.errors import UserError
from rewarm.core.run import find_run, read_launch
from rewarm.core.workspace import Workspace

if TYPE_CHECKING:
    from rewarm.hub.models import Version

app = typer.Typer(help="Models: versions in the Model Hub, and bases from elsewhere.", no_args_is_help=True)
Model = Annotated[str, typer.Argument(metavar="MODEL", help="name@version, a folder, or a hub id.")]

Version_ = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="name@version, or name@alias.")]


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the versions in the Model Hub."""
    from rewarm.hub.models import list_models

    rows = [_row(version) for version in list_models(Workspace.default().models)]
    print_list(
        rows,
        as_json,
        ("model", "base", "run", "size"),
        lambda r: (r["model"], r["base"], r["run"], size(r["bytes"])),
        f"no models in {Workspace.default().models} yet; a finished run publishes one",
    )


def _found(name: str) -> Version:
    from rewarm.hub.models import find

    return find(Workspace.default().models, name)


def _row(version: Version) -> dict[str, Any]:
    row: dict[str, Any] = {"model": str(version), "base": "", "run": "", "bytes": None, "path": str(version.path)}
    try:
        lineage = version.lineage
        imported = "imported" in lineage and f"imported from {lineage['imported']['from']}"
        base = imported or lineage["base"]["reference"]
        return row | {"base": base, "run": lineage.get("run", ""), "bytes": version.size}
    except (UserError, KeyError, TypeError) as error:  # the others can be listed all the same
        return row | {"base": f"damaged: {error.what if isinstance(error, UserError) else 'no such manifest'}"}


@app.command("show")
def show(model: Version_, as_json: AsJson = False) -> None:
    """Show a version: gain and forgetting, lineage, files, and whether every file is what was published."""
    from rewarm.report import words

    version = _found(model)
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
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name@version, name@alias, or a hub id.")],
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the files go; ./NAME-N when unset.")] = None,
    include: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only files such as *.json.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="No files such as report/*.")] = None,
) -> None:
    """Fetch a model: a version into a folder, verified, going on where it broke off; a hub id into the hub's cache."""

    if "/" in model:
        from rewarm.models.folder import check_folder, fetch
        from rewarm.pipeline.base import hub_token

        if to or include or exclude:
            raise UserError("--to, --include and --exclude are for versions", remedy="a hub id goes to the hub's cache")
        with progress_bar() as progress:
            folder = fetch(model, progress, token=hub_token(Workspace.default()))
        check_folder(folder)
        say(f"{folder}")
        return
    from rewarm.hub.transfer import chosen, reader
    from rewarm.hub.transfer import download as bring

    version = _found(model)
    files = chosen(version.manifest["files"], include, exclude)
    target = to or Path(f"{version.name}-{version.number}")
    with progress_bar() as progress:
        bring(files, reader(version), target, progress)
    say(f"{target}: {len(files)} files of {version}, each matches its SHA-256")


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="./folder, ./archive.zip or .tar, or a hub id.")],
    name: Annotated[str, typer.Option(help="Name of the model in the Model Hub.")],
    as_json: AsJson = False,
) -> None:
    """Make a model from elsewhere a version of the Model Hub: safetensors only, and no code of its own."""
    from rewarm.pipeline.imports import import_model

    with progress_bar() as progress:
        version = import_model(source, name, Workspace.default(), progress)
    answer({"model": str(version)}, f"{version}  in {version.path}", as_json)


@app.command("push")
def push(
    model: Version_,
    hub_id: Annotated[str, typer.Argument(metavar="HUB_ID", help="organisation/name")],
    connection: Annotated[str | None, typer.Option(metavar="NAME", help="Of kind hf; huggingface by default.")] = None,
    public: Annotated[bool, typer.Option("--public", help="For everybody; private when unset.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a version on a hub: weights, tokenizer, card and report."""
    from rewarm.pipeline.push import push as put

    address = put(_found(model), hub_id, Workspace.default(), connection, private=not public)
    answer({"address": address}, address, as_json)


@app.command("gguf")
def gguf(
    model: Version_,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="f32, f16, bf16 or q8_0.")] = "f16",
    as_json: AsJson = False,
) -> None:
    """Write a version as a GGUF file, by llama.cpp's converter (REWARM_GGUF_CONVERTER, or on PATH)."""
    from rewarm.pipeline.push import to_gguf

    if kind not in ("f32", "f16", "bf16", "q8_0"):
        raise UserError(f"there is no type {kind!r}", remedy="take f32, f16, bf16 or q8_0")
    path = to_gguf(_found(model), file, kind)  # type: ignore[arg-type]
    answer({"file": str(path)}, f"{path}", as_json)


@app.command("alias")
def alias(
    model: Version_,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    remove: Annotated[bool, typer.Option("--remove", help="Let it mean nothing.")] = False,
) -> None:
    """Let name@alias mean a version, if its report shows what the alias demands."""
    from rewarm.hub import aliases

    version = _found(model)
    if remove:
        aliases.unpoint(version.path.parent, name)
    else:
        aliases.point(version.path.parent, name, version.number, "owner")
    say(f"{version.name}@{name}: {'nothing now' if remove else version}")


@app.command("gate")
def gate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a model in the Model Hub.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    forgetting: Annotated[
        float | None, typer.Option(help="Per cent that forgetting may reach, by its interval.")
    ] = None,
    gain: Annotated[float | None, typer.Option(help="Per cent that the gain must exceed, by its interval.")] = None,
) -> None:
    """Set what an alias demands of a report; nothing, without options."""
    from rewarm.hub.aliases import Demands, demand

    home = _found(name).path.parent
    demand(home, alias, Demands(most_forgetting=forgetting, least_gain=gain))
    demands = [] if forgetting is None else [f"forgetting of at most {forgetting:g} %"]
    demands += [] if gain is None else [f"a gain above {gain:g} %"]
    say(f"{home.name}@{alias} demands {' and '.join(demands) or 'nothing'}")


@app.command("lineage")
def lineage(model: Version_, as_json: AsJson = False) -> None:
    """Show what a version was made of, and what was made of it."""
    from rewarm.hub.lineage import lineage_graph

    graph = lineage_graph(Workspace.default().models, _found(model))
    if as_json:
        print_json(graph)
    else:
        print_table("", ("from", "to"), [(edge["source"], edge["target"]) for edge in graph["edges"]])


@app.command("export")
def export(
    run: RunName,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    checkpoint: Annotated[str, typer.Option(metavar="NAME", help="step-N, or last.")] = "last",
    as_json: AsJson = False,
) -> None:
    """Turn any checkpoint of a run into a Hugging Face folder, also while the run goes on."""
    from rewarm.pipeline.exports import export_run

    found = find_run(Workspace.default(), run)
    read_launch(found)
    folder = export_run(found, target, checkpoint)
    told = {"run": found.id, "checkpoint": checkpoint, "path": str(folder)}
    answer(told, f"{folder}: checkpoint {checkpoint} of {found.id}, as a Hugging Face folder", as_json)


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
        max_tokens=tokens,
        temperature=temperature,
        seed=seed,
        device=Machine.here().device("auto"),
    )
    say(prompt + text)
