"""Stage 5, publish: the report, the model card, and a version in the Model Hub with its lineage."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from pathlib import Path
from typing import Any

import orjson
import yaml

import rewarm
from rewarm.core.errors import ModelError, UserError
from rewarm.core.events import TRAINING_FROM, metrics, read_events
from rewarm.core.manifest import canonical, to_json, verify
from rewarm.core.run import read_launch
from rewarm.core.storage import sha256_bytes, sha256_file, write_file
from rewarm.data.dataset import Dataset
from rewarm.data.plan import build_plan, sizes_of
from rewarm.data.rows import segments_of
from rewarm.hub.models import Version, find, list_models, publish
from rewarm.models.folder import fingerprint
from rewarm.pipeline.choice import refuse
from rewarm.pipeline.execution import Execution, Stage
from rewarm.pipeline.prepare import code_hash, dataset_of, hyperparameters_of, training_recipe
from rewarm.recipe.mixture import build_mixture, describe
from rewarm.recipe.pilot import chosen_of, with_pilot
from rewarm.recipe.recipe import CHAT_VECTOR
from rewarm.report.build import build_report, write_report
from rewarm.report.markdown import card

FIRST_ROWS = 3  # that the report shows of the training


def inputs(x: Execution) -> Any:
    return {"evaluate": x.run.stage_record("evaluate").read_text("utf-8"), "name": x.recipe.name}


def work(x: Execution) -> tuple[dict[str, Any], list[Path]]:
    report = draw_report(x)
    x.log.result("report", str(x.run.report / "report.html"))
    if (choice := x.facts["evaluate"].get("choice")) and not choice["kept"]:
        raise refuse(choice, x.facts["evaluate"]["weights"])
    base = x.facts["prepare"]["base"]
    chats = x.facts["evaluate"]["weights"] == CHAT_VECTOR

    def fill(folder: Path) -> None:
        shutil.copytree(
            x.run.path / "model", folder, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True
        )
        shutil.copytree(x.run.report, folder / "report")
        shutil.copy2(x.run.recipe, folder / "recipe.yaml")
        resolved = orjson.loads((x.run.path / "resolved.json").read_bytes())
        write_file(folder / "resolved.json", to_json(with_pilot(resolved, chosen_of(x.run))))
        write_file(folder / "README.md", card(report, license=base_license(Path(base["folder"]))))

    x.show_progress("publish", 0, 1, "version")
    verify(x.run.path / "model", ModelError)
    lineage = {
        "base": {key: base[key] for key in ("reference", "fingerprint")},
        "dataset": x.facts["prepare"]["dataset"],
        "recipe": sha256_file(x.run.recipe),
        "overrides": read_launch(x.run)["overrides"],
        "hyperparameters": sha256_bytes(canonical(hyperparameters_of(x).model_dump())),
        "code": {"version": rewarm.__version__, "sha256": code_hash()},
        "run": x.run.id,
        **({"instruct": _instruct(x)} if chats else {}),
        **x.facts["evaluate"],
        "model": fingerprint(x.run.path / "model"),
    }
    version = _published(x, lineage) or publish(x.workspace.models, x.recipe.name, fill, lineage)
    x.show_progress("publish", 1, 1, "version")
    x.log.result("model", {"version": str(version), "path": str(version.path)})
    return {"version": str(version)}, [x.run.report / name for name in ("report.json", "report.md", "report.html")]


def _instruct(x: Execution) -> dict[str, Any]:
    folder, reference = Path(x.facts["prepare"]["instruct"][0]), str(x.recipe.evaluation.instruct_model)
    local = reference.startswith("/")  # a lineage travels: it names a folder, not where it lies on this computer
    return {"reference": f"./{folder.name}" if local else reference, "fingerprint": fingerprint(folder)}


def _published(x: Execution, lineage: dict[str, Any]) -> Version | None:
    """The version that an attempt of this run has published already, and died before it could say so."""
    same = ("run", "model")
    for version in list_models(x.workspace.models):
        with contextlib.suppress(UserError):  # another version may be damaged
            if version.name == x.recipe.name and all(version.lineage.get(key) == lineage[key] for key in same):
                return version
    return None


def base_license(folder: Path) -> str | None:
    """The licence that the base's own model card names in its front matter, if there is one."""
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    if not text.startswith("---"):
        return None
    with contextlib.suppress(yaml.YAMLError):
        front = yaml.safe_load(text.split("---")[1])
        if isinstance(front, dict) and isinstance(front.get("license"), str):
            return str(front["license"])
    return None


def draw_report(x: Execution) -> dict[str, Any]:
    """Write ``report/`` from the run's own files, and return report.json."""
    x.show_progress("draw the report", 0, 1, "report")
    dataset, values = dataset_of(x), hyperparameters_of(x)
    plan = build_plan(training_recipe(x), dataset, values)
    seen = plan.seen(min(plan.total_rows, x.facts["train"]["steps"] * x.facts["train"]["rows_per_step"]))
    points = metrics(event for event, _ in read_events(x.run.events))
    report = build_report(
        name=x.recipe.name,
        run=x.run.id,
        base=x.facts["prepare"]["base"],
        result={"checkpoint": x.facts["train"]["checkpoint"], **x.facts["evaluate"]},
        rows=orjson.loads((x.run.results / "rows.json").read_bytes()),
        candidates=orjson.loads((x.run.results / "candidates.json").read_bytes()),
        metrics=points,
        data=dataset.manifest,
        recipe_text=x.run.recipe.read_text("utf-8"),
        resolved=orjson.loads((x.run.path / "resolved.json").read_bytes()),
        training=training_facts(x),
        pilot=orjson.loads((x.run.results / "pilot.json").read_bytes()) if x.recipe.has_pilot else None,
        mixture={**_mixture(x, dataset), "seen": seen},
        first_rows=[segments_of(plan, row) for row in range(min(FIRST_ROWS, plan.total_rows))],
        command=_command(x),
    )
    write_report(report, x.run.report)
    return report


def _mixture(x: Execution, dataset: Dataset) -> dict[str, Any]:
    data, sizes = training_recipe(x).data, sizes_of(dataset)
    rows = describe(build_mixture(data, sizes), sizes, hyperparameters_of(x).epochs)
    names = {source.name for source in data.sources}
    return {
        "sources": [(row["name"], row["times"]) for row in rows if row["name"] in names],
        "replay": (data.replay.name, data.replay.share) if data.replay and data.replay.share > 0 else None,
        "anneal": data.anneal and {
            "share": data.anneal.share, "shares": [(row["name"], row["anneal_share"]) for row in rows]
        },
    }  # fmt: skip


def _command(x: Execution) -> str:
    return " ".join(["rewarm run recipe.yaml", *map(shlex.quote, read_launch(x.run)["overrides"])])


def training_facts(x: Execution) -> dict[str, Any]:
    """Steps, tokens and device of the training, and its seconds over all attempts."""
    spans: dict[int, list[float]] = {}
    for event, _ in read_events(x.run.events):
        if event["kind"] == "result" and event["name"] == TRAINING_FROM and event["value"] == 0:
            spans.clear()  # what came before was given up
        if event["stage"] == "train":
            spans.setdefault(event["attempt"], []).append(event["time"])
    seconds = sum(times[-1] - times[0] for times in spans.values())
    return {**x.facts["train"], "device": x.facts["prepare"]["device"], "seconds": round(seconds, 3)}


def check(x: Execution, facts: dict[str, Any]) -> None:
    """Raise ``UserError`` where the version is gone or was changed."""
    find(x.workspace.models, facts["version"]).verify()


PUBLISH = Stage("publish", inputs, work, check)
