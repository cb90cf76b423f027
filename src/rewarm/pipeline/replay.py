"""Replay that the base model writes itself: sampled once for a base and its settings, then read like any corpus.

    replay/KEY/corpus.jsonl, manifest.json   the texts, each once; KEY = hash of (base, settings)
    replay/.building/KEY/part-00000.jsonl    in work: a part is a file, and a killed run goes on with the next

A part is a pure function of (base, settings, number), as far as the machine rounds alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import torch

from rewarm.core.errors import ModelError
from rewarm.core.manifest import canonical, is_whole, write_manifest
from rewarm.core.storage import locked, remove_folder, sha256_bytes, staged_folder, sweep, write_file
from rewarm.data.sample import with_own_replay
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.models.generate import Writer, load_writer
from rewarm.models.sampling import sample
from rewarm.pipeline.base import Base
from rewarm.pipeline.distance import measure_shift
from rewarm.pipeline.execution import Execution
from rewarm.recipe.facts import Machine, usable_cores
from rewarm.recipe.recipe import Generate, Recipe
from rewarm.recipe.resolve import Origin, device_for

CORPUS = "corpus.jsonl"
PART = 128
"""Texts of a part: a minute's work or two, which is what a kill may cost."""
VERSION = 1


def settle_replay(x: Execution, base: Base) -> Origin | None:
    """Put into ``x.recipe`` the replay that it leaves open, and say why: its share follows the measured shift.

    Where no text is named, the base writes it; where it can write none, there is a warning and no replay.

    Raises:
        DataError: the corpus cannot be read.
    """
    recipe, replay = x.recipe, x.recipe.data.replay
    if not recipe.leaves_replay_open and (replay is None or "share" in replay.model_fields_set):
        return None
    try:
        shift = measure_shift(recipe, base, x.progress)
    except ModelError as error:
        x.warn(f"how far the corpus lies from the base cannot be measured: {error}")
        return None
    if replay is None:
        x.recipe = with_own_replay(recipe, base.folder, shift.share)
    else:
        x.recipe = recipe.replaying(replay.model_copy(update={"share": shift.share}))
    chosen = x.recipe.model_dump(mode="json", exclude_unset=True)["data"]["replay"]
    chosen.pop("path", None)  # reports travel, and it is in the recipe
    return Origin(chosen, "recommended", shift.reason)


def with_replay(x: Execution, base: Base) -> Recipe:
    """The recipe, with the replay that it wants generated there to be read.

    Raises:
        ModelError: the base cannot be used, or repeats itself.
        Stopped: if a stop was asked for; the parts that were finished are kept.
    """
    recipe = x.recipe
    if recipe.data.replay is None or recipe.data.replay.generate is None:
        return recipe
    path = _corpus(x, base, recipe.data.replay.generate)
    replay = recipe.data.replay.model_copy(
        update={"path": str(path), "format": "jsonl", "text_column": "text", "generate": None}
    )
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"replay": replay})})


def _corpus(x: Execution, base: Base, settings: Generate) -> Path:
    start = DocumentTokenizer.load(base.folder, x.recipe.data.document_tokens).context_id
    facts = {"version": VERSION, "base": base.fingerprint(), "start": start, "settings": settings.model_dump()}
    folder = x.workspace.replay / sha256_bytes(canonical(facts))[:32]
    building = x.workspace.replay / ".building" / folder.name
    machine = Machine.here()
    device = torch.device(device_for(x.recipe, machine))
    loaded: list[Writer] = []

    def write(numbers: range, told: Callable[[int], None]) -> list[bytes]:
        if not loaded:  # not before a part is missing
            x.progress("load the model", 0, 1, "model")
            torch.set_num_threads(x.recipe.infrastructure.threads or usable_cores())
            loaded.append(load_writer(base.folder, device, hashes=False))
        texts = sample(loaded[0], start, numbers, settings, told)
        return [orjson.dumps({"text": text, "tokens": tokens}) + b"\n" for text, tokens in texts]

    def wait() -> None:
        x.progress("wait for another run's replay", 0, 1, "corpus")

    with locked(building.with_suffix(".lock"), "this replay", wait):
        if not is_whole(folder):
            parts = _parts(x, building, settings, write, _side_by_side(base, settings, machine, device))
            sweep(building)  # what a killed run left half-written; nobody else is in here
            shutil.rmtree(building / "whole", ignore_errors=True)
            with staged_folder(building / "whole") as beside:
                with (beside / CORPUS).open("wb") as file:
                    counts = _distinct(parts, file.write, settings.tokens)
                write_manifest(beside, {**facts, **counts, "device": device.type, "torch": torch.__version__})
            (building / "whole").rename(folder)
            remove_folder(building)
    return folder / CORPUS


def _parts(
    x: Execution, building: Path, settings: Generate, write: Callable[..., list[bytes]], rows: int
) -> Iterator[list[bytes]]:
    """The parts one after another, for as long as more are wanted; those that are there are read."""
    done, number = 0, 0
    while True:
        path = building / f"part-{number:05d}.jsonl"
        if not path.is_file():
            lines, drawn = [], done

            def told(tokens: int) -> None:
                nonlocal drawn
                drawn += tokens
                x.progress("write replay", min(drawn, settings.tokens), settings.tokens, "tokens")

            for first in range(number * PART, (number + 1) * PART, rows):
                lines += write(range(first, min(first + rows, (number + 1) * PART)), told)
            write_file(path, b"".join(lines))
        found = path.read_bytes().splitlines(keepends=True)
        yield found
        done += sum(orjson.loads(line)["tokens"] for line in found)
        number += 1


def _distinct(parts: Iterator[list[bytes]], keep: Callable[[bytes], Any], wanted: int) -> dict[str, int]:
    """Hand on each text once, until there are as many tokens as wanted; what came, and what became of it.

    Raises:
        ModelError: a whole part held nothing new.
    """
    seen: set[str] = set()
    counts = {"written": 0, "empty": 0, "duplicates": 0, "documents": 0, "tokens": 0}
    for part in parts:
        before = counts["documents"]
        for line in part:
            record = orjson.loads(line)
            mark = sha256_bytes(record["text"].encode())
            counts["written"] += 1
            if not record["text"]:
                counts["empty"] += 1
            elif mark in seen:
                counts["duplicates"] += 1
            else:
                seen.add(mark)
                keep(line)
                counts["documents"] += 1
                counts["tokens"] += record["tokens"]
            if counts["tokens"] >= wanted:
                return counts
        if counts["documents"] == before:
            raise ModelError(
                f"the base model writes nothing new: {counts['documents']} different texts in {counts['written']}",
                where="data.replay.generate",
                remedy="raise its temperature, ask for fewer tokens, give data.replay.path, or set data.replay: null",
            )
    raise AssertionError("the parts never end")


def _side_by_side(base: Base, settings: Generate, machine: Machine, device: torch.device) -> int:
    """Texts to write at once: as many as keep the device busy, their keys and values in a quarter of its memory."""
    on_gpu, facts = device.type == "cuda", base.facts
    each = 2 * facts.layers * facts.kv_heads * facts.head_width * (2 if on_gpu else 4) * settings.max_tokens
    memory = machine.gpus[0][1] if on_gpu else machine.memory
    return max(1, min(PART if on_gpu else 32, memory // 4 // each))
