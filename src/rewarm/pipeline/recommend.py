"""The recipe that Rewarm would choose for a model and a corpus: what ``rewarm recommend`` prints.

The base reads a sample of the corpus and a few texts that it writes itself; their languages, and how much dearer the
corpus is, tell the kind of the shift, and that the share of replay. What ``resolve`` recommends anyway stays unset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rewarm.core.errors import DataError, ModelError
from rewarm.core.storage import expand_home
from rewarm.core.workspace import Workspace
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import File, list_files, signature
from rewarm.data.sample import sample_texts
from rewarm.data.steps.language import languages
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.evaluate.bits_per_byte import bits_per_byte, score_documents, window_of
from rewarm.models.causal import load_model
from rewarm.models.folder import Progress
from rewarm.models.generate import load_writer
from rewarm.models.sampling import sample
from rewarm.pipeline.base import locate
from rewarm.recipe.estimate import WINDOW
from rewarm.recipe.facts import Machine, usable_cores
from rewarm.recipe.recipe import Generate, Recipe, Source
from rewarm.recipe.resolve import Origin, resolve
from rewarm.recipe.shift import Shift, shift_of, written_tokens

BYTES, EACH = 24_000, 1_500
"""Of the corpus that are scored; and characters of a document, so that they are of many."""
TEXTS, TEXTS_WRITTEN = Generate(max_tokens=160), 24
"""How the base's own texts are written, and how many."""


@dataclass(frozen=True)
class Recommendation:
    """A recipe as it would be written down, and the reasons for what it says and for what it leaves open."""

    recipe: dict[str, Any]
    shift: Shift
    hyperparameters: dict[str, Origin]


def recommend(model: str, corpus: str, workspace: Workspace, progress: Progress) -> Recommendation:
    """The recipe for this model, this corpus and this machine.

    Raises:
        UserError: if model or corpus cannot be read.
    """
    if Path(corpus).exists():
        corpus = str(Path(corpus).resolve())
    if model.startswith((".", "~")):
        model = str(expand_home(model).resolve())
    base = locate(model, workspace, progress)
    source = {"name": "corpus", "path": corpus}
    plain = {"name": _name(corpus), "base_model": base.reference, "data": {"sources": [source]}}
    recipe = Recipe.model_validate(plain)
    sizes = {"corpus": sample_texts(recipe, base.folder)["corpus"].tokens}
    tokenizer = DocumentTokenizer.load(base.folder, None)
    shift = _measure(base.folder, tokenizer, _read(recipe.data.sources[0]), progress)
    sizes["replay"] = written_tokens(shift.share, sizes["corpus"])
    replay = {"share": shift.share, "generate": {"tokens": sizes["replay"]}}
    plain["data"] = {"sources": [source], "replay": replay}
    plain["evaluation"] = {"general_tasks": ["in_context"]}
    resolved = resolve(Recipe.model_validate(plain), base.facts, sizes, Machine.here())
    chosen = {name: origin for name, origin in resolved.origins.items() if origin.origin == "recommended"}
    return Recommendation(plain, shift, chosen)


def _name(corpus: str) -> str:
    stem = Path(corpus).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:100] or "corpus"


def _read(source: Source) -> list[str]:
    """Beginnings of documents, as many as are scored, from all over the files where there are several."""
    files, texts, size = list_files(source.paths).files, list[str](), 0
    each = max(1, BYTES // min(len(files), 16))
    for path in files[:: max(1, len(files) // 16)]:
        here = 0
        for item in read_documents(File(path, signature(path))):
            if isinstance(item, Document) and (text := item.text[:EACH].strip()):
                texts.append(text)
                here += len(text.encode())
            if here >= each:
                break
        if (size := size + here) >= BYTES:
            break
    if not texts:
        raise DataError("there is no text in it", where=", ".join(source.paths))
    return texts


def _measure(folder: Path, tokenizer: DocumentTokenizer, corpus: list[str], progress: Progress) -> Shift:
    device = torch.device("cuda" if Machine.here().gpus else "cpu")
    torch.set_num_threads(usable_cores())
    progress("write texts", 0, 1, "step")
    if (start := tokenizer.context_id) is None:
        raise ModelError(
            "this tokenizer has no token that a text could begin with, so the base can write none",
            where=folder,
            remedy="write the recipe with data.replay.path",
        )
    writer = load_writer(folder, device, hashes=False)
    own = [one.text for one in sample(writer, start, range(TEXTS_WRITTEN), TEXTS) if one.text]
    if not own:
        raise ModelError("the base model writes nothing but empty texts", where=folder)
    model = load_model(folder, device=device)
    bits = []
    for texts in (corpus, own):
        items = score_documents(
            model,
            _Texts(texts, tokenizer),
            context_id=start,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            window=window_of(WINDOW, model.config),
            max_bytes=BYTES,
            device=device,
            progress=progress,
        )
        bits.append(bits_per_byte(items))
    return shift_of(bits[0], bits[1], languages(corpus), languages(own))


class _Texts:
    """Texts as ``score_documents`` takes them."""

    def __init__(self, texts: Sequence[str], tokenizer: DocumentTokenizer) -> None:
        encoded = [text.encode() for text in texts]
        self.ids = [sha256(text).hexdigest() for text in encoded]
        self.bytes = [len(text) for text in encoded]
        self._tokens = tokenizer.encode_batch(list(texts))

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, index: int, /) -> NDArray[Any]:
        return np.asarray(self._tokens[index])
