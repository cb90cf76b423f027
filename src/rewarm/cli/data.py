"""The commands about data: build, ls, show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rewarm.cli.show import amount, console, print_json, print_table
from rewarm.cli.start import AsJson, Overrides, RecipePath
from rewarm.core.errors import UserError
from rewarm.core.run import find_run
from rewarm.core.workspace import Workspace

app = typer.Typer(help="Texts and the datasets made of them.", no_args_is_help=True)


@app.command("build")
def build(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Read, clean and tokenize the texts of a recipe, and nothing else. The run then finds them done."""
    from rewarm.cli.show import progress_bar
    from rewarm.data.prepare import build_dataset
    from rewarm.pipeline.base import locate
    from rewarm.recipe.load import load_recipe

    loaded, workspace = load_recipe(recipe, overrides or []), Workspace.default()
    with progress_bar() as progress:
        base = locate(loaded.base_model, workspace, progress)
        dataset = build_dataset(
            loaded, base.folder, workspace.datasets, workers=loaded.infrastructure.threads, progress=progress
        )
    _print_dataset(dataset.path, dataset.manifest, as_json)


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the datasets of the workspace."""
    from rewarm.core.manifest import MANIFEST, read_manifest

    folder = Workspace.default().datasets
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda p: p.stat().st_mtime) if folder.is_dir() else []
    rows = []
    for path in found:
        manifest = read_manifest(path.parent)
        sources = manifest["sources"]
        rows.append(
            {
                "dataset": path.parent.name,
                "sources": [s["name"] for s in sources],
                "documents": sum(s["accepted"] for s in sources),
                "tokens": sum(s["tokens"] for s in sources),
            }
        )
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            "",
            ("dataset", "sources", "documents", "tokens"),
            [(r["dataset"], ", ".join(r["sources"]), amount(r["documents"]), amount(r["tokens"])) for r in rows],
            right=(2, 3),
        )
    else:
        sys.stdout.write(f"no datasets in {folder} yet; make one with: rewarm data build recipe.yaml\n")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="A dataset's hash or a part of it, or a run's id.")],
    samples: Annotated[int, typer.Option(min=0, help="Documents of each source to print.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Show what became of every document: accepted, rejected with reasons, duplicates, held out; and samples."""
    from rewarm.data.dataset import Dataset

    path = _find_dataset(name)
    dataset = Dataset.open(path, verify=False)
    _print_dataset(path, dataset.manifest, as_json)
    if as_json or not samples:
        return
    out = console()
    for source in dataset.sources:
        documents = dataset.train(source)
        documents = documents if len(documents) else dataset.held_out(source)
        for index in range(min(samples, len(documents))):
            text = dataset.decode(documents.tokens(index)[:200])
            out.print(f"{source} #{index}", style="bold")
            out.print(f"{text[:400]}\n")


def _find_dataset(name: str) -> Path:
    workspace = Workspace.default()
    matches = [p for p in workspace.datasets.glob("*") if p.name.startswith(name) and (p / "manifest.json").is_file()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise UserError(f"{name!r} fits {len(matches)} datasets", remedy="give more of the hash; rewarm data ls")
    try:
        record = find_run(workspace, name).path / "resolved.json"
    except UserError:
        raise UserError(f"there is no dataset and no run {name!r}", remedy="rewarm data ls") from None
    if not record.is_file():
        raise UserError("this run has not prepared its data yet", where=name)
    return workspace.datasets / str(orjson.loads(record.read_bytes())["dataset"])


def _print_dataset(path: Path, manifest: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"dataset": path.name, "path": str(path), **{k: v for k, v in manifest.items() if k != "files"}})
        return
    from rewarm.pipeline import words
    from rewarm.pipeline.report import text_figures

    texts = [text_figures(source) for source in manifest["sources"]]
    print_table(
        f"dataset {path.name}", words.DATA_HEADS, [words.data_cells(text) for text in texts], right=range(2, 10)
    )
    for note in words.data_notes({"texts": texts, "replay_share": None}):
        console().print(note)
    sys.stdout.write(f"{path}\n\n")
