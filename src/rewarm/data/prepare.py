"""PLACEHOLDER thin version: jsonl and txt in one process; the real one follows within the hour."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rewarm.core.manifest import canonical, to_json, write_manifest
from rewarm.core.storage import sha256_bytes, staged_folder
from rewarm.data.dataset import Dataset
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.recipe.recipe import Recipe

Progress = Callable[[str, float, float, str], None]


def _silent(what: str, done: float, total: float, unit: str) -> None:
    return None


@dataclass(frozen=True)
class SourceEstimate:
    name: str
    role: str
    files: int
    bytes: int
    documents: int
    tokens: int
    exact: bool


@dataclass(frozen=True)
class Estimate:
    sources: tuple[SourceEstimate, ...]


def build_dataset(
    recipe: Recipe,
    tokenizer_folder: Path,
    datasets: Path,
    *,
    workers: int | None = None,
    progress: Progress = _silent,
    stop: Callable[[], bool] = lambda: False,
) -> Dataset:
    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    panels = {p.name for p in recipe.evaluation.panels}
    texts = {}
    for text in recipe.texts:
        docs: list[str] = []
        for pattern in text.paths:
            base = Path(pattern)
            files = sorted(base.rglob("*")) if base.is_dir() else sorted(base.parent.glob(base.name))
            for file in files:
                if file.suffix == ".txt":
                    docs.append(file.read_text())
                elif file.suffix == ".jsonl":
                    docs.extend(orjson.loads(line)["text"] for line in file.read_bytes().split(b"\n") if line.strip())
        texts[text.name] = [unicodedata.normalize("NFC", d) for d in docs]
    key = sha256_bytes(canonical([tokenizer.hash, texts, recipe.data.held_out]))[:32]
    if (datasets / key).exists():
        return Dataset.open(datasets / key, verify=False)
    seen: set[str] = set()
    entries: list[dict[str, Any]] = []
    with staged_folder(datasets / key) as folder:
        for name, docs in texts.items():
            unique = {hashlib.blake2b(d.encode(), digest_size=16).hexdigest(): d for d in docs}
            unique = {h: d for h, d in unique.items() if h not in seen}
            seen |= unique.keys()
            order = sorted(unique)
            total = sum(len(d.encode()) for d in unique.values())
            held: list[str] = []
            size = 0
            for h in order:
                n = len(unique[h].encode())
                if name in panels or (len(held) < 32 and size + n <= total / 10):
                    held.append(h)
                    size += n
            chosen = set(held)
            held = [h for h in unique if h in chosen]
            train = [h for h in unique if h not in chosen]
            facts: dict[str, Any] = {"name": name, "shards": ["00000"], "held_out_shards": ["00000"]}
            for part, ids in ((folder / name, train), (folder / name / "held_out", held)):
                part.mkdir(parents=True, exist_ok=True)
                encoded = tokenizer.encode_batch([unique[h] for h in ids])
                np.cumsum([0, *map(len, encoded)]).astype("<u8").tofile(part / "documents-00000.idx")
                flat = np.concatenate([*encoded, np.zeros(0, np.uint32)])
                flat.astype(tokenizer.dtype).tofile(part / "tokens-00000.bin")
                prefix = "held_out_" if ids is held else ""
                facts[f"{prefix}tokens"] = len(flat)
                facts[f"{prefix}bytes"] = sum(len(unique[h].encode()) for h in ids)
            lines = [orjson.dumps({"id": h, "source": name, "bytes": len(unique[h].encode())}) + b"\n" for h in held]
            (folder / name / "held_out.jsonl").write_bytes(b"".join(lines))
            role = "panel" if name in panels else "source"
            if recipe.data.replay and name == recipe.data.replay.name:
                role = "replay"
            facts |= {
                "role": role,
                "documents_in": len(docs),
                "accepted": len(train),
                "held_out": len(held),
                "rejected": {},
                "filtered": {"duplicate": len(docs) - len(train) - len(held)},
            }
            entries.append(facts)
        write_manifest(folder, {"dtype": tokenizer.dtype.name, "tokenizer": tokenizer.hash, "sources": entries})
    return Dataset.open(datasets / key, verify=False)


def sample_texts(recipe: Recipe, tokenizer_folder: Path, max_bytes: int = 1_000_000) -> Estimate:
    raise NotImplementedError


_ = to_json
