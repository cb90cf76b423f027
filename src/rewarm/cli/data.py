"""The commands about data: build, ls, show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from rewarm.cli.show import console, print_json, print_table, say
from rewarm.cli.start import AsJson, Overrides, RecipePath
from rewarm.core.amounts import amount
from rewarm.core.errors import DataError, UserError
from rewarm.core.run import Run, find_run, list_runs
from rewarm.core.workspace import Workspace

if TYPE_CHECKING:
    from rewarm.data.dataset import Dataset
    from rewarm.data.rows import Segment

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
    if as_json:
        about = {key: value for key, value in dataset.manifest.items() if key != "files"}
        print_json({"dataset": dataset.path.name, "path": str(dataset.path), **about})
    else:
        _print_dataset(dataset.path, dataset.manifest)


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the datasets of the workspace."""
    from rewarm.core.manifest import MANIFEST

    folder = Workspace.default().datasets
    found = sorted(folder.glob(f"*/{MANIFEST}"), key=lambda p: p.stat().st_mtime) if folder.is_dir() else []
    rows = [_row(path.parent) for path in found]
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
        say(f"no datasets in {folder} yet; make one with: rewarm data build recipe.yaml")


def _row(folder: Path) -> dict[str, Any]:
    from rewarm.core.manifest import read_manifest

    row: dict[str, Any] = {"dataset": folder.name, "sources": [], "documents": None, "tokens": None}
    try:
        sources = read_manifest(folder)["sources"]
        return row | {
            "sources": [source["name"] for source in sources],
            "documents": sum(source["accepted"] for source in sources),
            "tokens": sum(source["tokens"] for source in sources),
        }
    except (UserError, KeyError, TypeError) as error:  # the others can be listed all the same
        return row | {"sources": [f"damaged: {error.what if isinstance(error, UserError) else 'no such manifest'}"]}


@app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="DATASET", help="A dataset's hash, a run's id, a recipe's name, or: last.")
    ],
    samples: Annotated[int, typer.Option(min=0, help="Documents to print of each source and of each drop rule.")] = 2,
    rows: Annotated[int, typer.Option(min=0, help="Of a run: rows to print as the model sees them.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what became of every document: accepted, held out, filtered by which rule, rejected for what; samples."""
    from rewarm.data.dataset import Dataset

    path, run = _find_dataset(name)
    dataset = Dataset.open(path, verify=False)
    if rows and run is None:
        raise UserError("--rows shows the rows of a run, and this names a dataset", remedy="give the run's id instead")
    seen = _rows_of(run, dataset, rows) if run and rows else []
    if as_json:
        about = {key: value for key, value in dataset.manifest.items() if key != "files"}
        print_json({"dataset": path.name, "path": str(path), **about, **({"rows": seen} if rows else {})})
        return
    _print_dataset(path, dataset.manifest)
    out = console()
    for entry in dataset.manifest["sources"]:
        documents = dataset.train(entry["name"]) if entry["accepted"] else dataset.held_out(entry["name"])
        for index in range(min(samples, len(documents))):
            out.print(f"{entry['name']} #{index}", style="bold")
            out.print(f"{dataset.decode(documents.tokens(index)[:200])[:400]}\n")
        for rule, dropped in entry.get("samples", {}).items():
            for sample in dropped[:samples]:
                measured = "" if sample["value"] is None else f" ({sample['value']})"
                out.print(f"{entry['name']}, filtered by {rule}{measured}", style="bold")
                out.print(f"{sample['file']}:{sample['line']}\n{sample['text']}\n")
    for number, segments in enumerate(seen):
        out.print(f"row {number}: {sum(s['end'] - s['begin'] for s in segments)} tokens", style="bold")
        for s in segments:
            out.print(
                f"--- {s['source']} #{s['document']}, tokens {s['begin']} to {s['end']} of {s['length']}", style="dim"
            )
            out.print(s["text"])


def _rows_of(run: Run, dataset: Dataset, count: int) -> list[list[Segment]]:
    from rewarm.core.run import read_launch
    from rewarm.data.rows import first_rows
    from rewarm.recipe.hyperparameters import Hyperparameters
    from rewarm.recipe.load import load_recipe

    launch = read_launch(run)
    recipe = load_recipe(run.recipe, launch["overrides"], Path(launch["folder"]))
    chosen = (_resolved(run) or {})["hyperparameters"]
    values = Hyperparameters.model_validate({field: item["value"] for field, item in chosen.items()})
    return first_rows(recipe, dataset, values, count)


@app.command("thresholds")
def thresholds(
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Clean text of the language: files, folders.")],
    language: Annotated[str, typer.Option(help="Its code: th, tha or tha_Thai.")],
    output: Annotated[Path, typer.Option(help="The profile to write: profile: ./FILE in a recipe.")],
    tail: Annotated[
        float, typer.Option(min=0, max=0.2, help="Share of the documents that may lie beyond each limit.")
    ] = 0.01,
    text_column: Annotated[str | None, typer.Option(help="The field that holds the text.")] = None,
) -> None:
    """Derive the limits of the cleaning steps for a language from text that is known to be clean."""
    from rewarm.core.storage import write_file
    from rewarm.data.thresholds import derive_thresholds

    profile = derive_thresholds(files, language, tail=tail, text_column=text_column)
    write_file(output, orjson.dumps(profile.model_dump(exclude_none=True), option=orjson.OPT_INDENT_2) + b"\n")
    say(f"{output}: {profile.origin}")


def _find_dataset(name: str) -> tuple[Path, Run | None]:
    """The dataset that a hash names, or the one of a run, or of the newest run of a recipe that has one."""
    workspace = Workspace.default()
    matches = [p for p in workspace.datasets.glob("*") if p.name.startswith(name) and (p / "manifest.json").is_file()]
    if len(matches) == 1:
        return matches[0], None
    if len(matches) > 1:
        raise UserError(f"{name!r} fits {len(matches)} datasets", remedy="give more of the hash; rewarm data ls")
    called = re.compile(rf"\d{{8}}T\d{{6}}-{re.escape(name)}-[0-9a-f]{{4}}")
    runs = [run for run in list_runs(workspace) if name == "last" or called.fullmatch(run.id)]
    try:
        runs = runs or [find_run(workspace, name)]
    except UserError:
        raise UserError(f"there is no dataset and no run {name!r}", remedy="rewarm data ls") from None
    for run in reversed(runs):
        if (resolved := _resolved(run)) is not None:
            return workspace.datasets / str(resolved["dataset"]), run
    raise UserError("this run has not prepared its data yet", where=name, remedy=f"rewarm runs show {name}")


def _resolved(run: Run) -> dict[str, Any] | None:
    """The run's ``resolved.json``; None where it is not there yet."""
    path = run.path / "resolved.json"
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or not {"dataset", "hyperparameters"} <= set(value):
        raise DataError("this file is damaged", where=path, remedy=f"rewarm resume {run.id} writes it anew")
    return value


def _print_dataset(path: Path, manifest: dict[str, Any]) -> None:
    from rewarm.report import words
    from rewarm.report.build import text_figures

    texts = [text_figures(source) for source in manifest["sources"]]
    print_table(f"dataset {path.name}", *words.data_rows(texts), right=range(2, 10))
    for text in texts:
        bars = words.waterfall(text)
        if len(bars) > 2:
            cells = [(what, f"{n:,}", "\N{FULL BLOCK}" * round(30 * n / text["documents_in"])) for what, n in bars]
            print_table(f"{text['name']}: where the documents went", ("", "documents", ""), cells, right=(1,))
    english = manifest.get("english_bytes_per_token")
    for note in words.data_notes({"texts": texts, "replay_share": None, "english_bytes_per_token": english}):
        console().print(note)
    say(f"{path}\n")
