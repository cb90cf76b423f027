"""The commands about data: build, ls, preview, show, thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from rewarm.cli.options import AsJson, Documents, Overrides, RecipePath, TextColumn
from rewarm.cli.show import console, one_line, print_json, print_list, print_table, progress_bar, say
from rewarm.core.amounts import amount
from rewarm.core.errors import DataError, UserError
from rewarm.core.workspace import Workspace

if TYPE_CHECKING:
    from rewarm.core.run import Run
    from rewarm.data.dataset import Dataset
    from rewarm.data.rows import Segment

app = typer.Typer(help="Texts and the datasets made of them.", no_args_is_help=True)


@app.command("build")
def build(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Read, clean and tokenize the texts of a recipe, and nothing else. The run then finds them done."""
    from rewarm.data.prepare import build_dataset
    from rewarm.pipeline.base import locate
    from rewarm.recipe.load import load_recipe

    loaded, workspace = load_recipe(recipe, overrides or []), Workspace.default()
    with progress_bar() as progress:
        base = locate(loaded.base_model, workspace, progress)
        if loaded.evaluation.all_tasks:
            from rewarm.pipeline.items import with_items  # torch and the harness, which few builds need

            loaded = with_items(loaded, workspace, progress)
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
    from rewarm.data.catalogue import list_datasets

    folder = Workspace.default().datasets
    rows = [{key: value for key, value in row.items() if key not in ("bytes", "made")} for row in list_datasets(folder)]
    heads = ("dataset", "sources", "documents", "tokens")
    empty = f"no datasets in {folder} yet; make one with: rewarm data build recipe.yaml"

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return row["dataset"], ", ".join(row["sources"]), amount(row["documents"]), amount(row["tokens"])

    print_list(rows, as_json, heads, cells, empty, right=(2, 3))


@app.command("preview")
def preview(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file, folder, pattern or address.")],
    connection: Annotated[str | None, typer.Option(help="The connection that an address is read through.")] = None,
    documents: Documents = 3,
    text_column: TextColumn = None,
    as_json: AsJson = False,
) -> None:
    """Show the first documents of a file, or of the first file that a folder or pattern names."""
    from rewarm.data.preview import preview as read_first

    print_preview(read_first([path], connection, documents=documents, text_column=text_column), as_json)


def print_preview(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    say(one_line(found["file"]))
    for item in found["documents"]:
        say(f"\n--- {item.get('url') or item.get('rejected') or ''}\n{item.get('text', '')[:400]}")


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
    from rewarm.data.catalogue import find_dataset
    from rewarm.data.dataset import Dataset

    path, run = find_dataset(Workspace.default(), name)
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
    from rewarm.data.rows import segments_of
    from rewarm.pipeline.ledger import order_of

    plan = order_of(run).plan
    return [segments_of(plan, row) for row in range(min(count, plan.total_rows))]


@app.command("upload")
def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Files of this computer.")],
    text: Annotated[str, typer.Option(help="The text that they belong to: a folder in the Studio's workspace.")],
) -> None:
    """Send files to the Studio at REWARM_URL; one that breaks off goes on where it ended when it is sent again."""
    raise UserError("no Studio is named", where="REWARM_URL", remedy=f"set it, or name {files[0]} in the recipe itself")


@app.command("thresholds")
def thresholds(
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Clean text of the language: files, folders.")],
    language: Annotated[str, typer.Option(help="Its code: th, tha or tha_Thai.")],
    output: Annotated[Path, typer.Option(help="The profile to write: profile: ./FILE in a recipe.")],
    tail: Annotated[
        float, typer.Option(min=0, max=0.2, help="Share of the documents that may lie beyond each limit.")
    ] = 0.01,
    text_column: TextColumn = None,
) -> None:
    """Derive the limits of the cleaning steps for a language from text that is known to be clean."""
    from rewarm.core.storage import write_file
    from rewarm.data.thresholds import derive_thresholds

    profile = derive_thresholds(files, language, tail=tail, text_column=text_column)
    write_file(output, orjson.dumps(profile.model_dump(exclude_none=True), option=orjson.OPT_INDENT_2) + b"\n")
    say(f"{output}: {profile.origin}")


@app.command("cloze")
def cloze(
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Documents: files, folders, patterns.")],
    output: Annotated[Path, typer.Option(help="The items to write; evaluation.tasks: [FILE] asks them.")],
    items: Annotated[int, typer.Option(min=1, help="Items at most.")] = 500,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="A base that is asked first.")] = None,
    keep: Annotated[
        Literal["unknown", "known"],
        typer.Option(help="With --model: the items that it does not know, or those that it does."),
    ] = "unknown",
    text_column: TextColumn = None,
) -> None:
    """Make cloze items from documents: a number or a name is to be said from what stands before it."""
    from rewarm.core.storage import write_file
    from rewarm.data.cloze import cloze_items
    from rewarm.data.documents import Document, read_documents
    from rewarm.data.files import list_files

    found = list_files(files).files
    texts = (one for path in found for one in read_documents(path, text_column=text_column))
    made = cloze_items((one.text for one in texts if isinstance(one, Document)), items)
    known = made
    if model and made:
        from rewarm.pipeline.cloze import judged  # torch and the harness

        with progress_bar() as progress:
            known = judged(made, model, keep, Workspace.default(), progress)
    if not known:
        raise DataError("no item could be made of these documents", where=", ".join(files))
    write_file(output, b"".join(orjson.dumps(item) + b"\n" for item in known))
    say(
        f"{output}: {len(known):,} items"
        + (f", of {len(made):,} that {model} answered, these were {keep}" if model else "")
    )


def _print_dataset(path: Path, manifest: dict[str, Any]) -> None:
    from rewarm.report import words

    texts = [words.text_figures(source) for source in manifest["sources"]]
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
