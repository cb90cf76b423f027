"""What the texts of a recipe hold after cleaning, estimated from a sample, before anything heavy starts."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np

from rewarm.core.errors import DataError
from rewarm.data.documents import Document, read_documents
from rewarm.data.figures import in_order
from rewarm.data.files import File, Meter, list_files
from rewarm.data.minhash import signatures
from rewarm.data.near_duplicates import near_duplicates, write_signatures
from rewarm.data.remote import is_remote
from rewarm.data.scan import clean, identity
from rewarm.data.steps import build_steps
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.recipe.recipe import Recipe, Text
from rewarm.recipe.resolve import training_tokens
from rewarm.recipe.shift import own_replay
from rewarm.recipe.steps import Decontaminate, NearDuplicates, Step

_FILES, _REMOTE_FILES, _PARTS = 256, 8, 8
"""Files of a text that are opened at most; parts of its budget, of which a file gets one."""


@dataclass(frozen=True)
class Estimate:
    """The figures of one text, with what is held out of it; all but ``files`` are estimates unless ``exact``."""

    files: int
    bytes: int  # UTF-8 bytes of text
    documents: int
    tokens: int
    exact: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    """Documents by rule and reason; more are duplicates than a sample shows."""


@dataclass
class _Sample:
    """What was read of a text, and, of its first documents, what the steps leave of each (None: dropped)."""

    files: int  # in all
    size: int  # of them all, on disk
    opened: int = 0
    disk: int = 0  # bytes that were read
    bytes: int = 0  # of text in them
    documents: int = 0
    alone: bool = True  # no file holds more than one document
    looked_at: int = 0  # bytes of the documents that were cleaned
    cleaned: list[str | None] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def sample_texts(recipe: Recipe, tokenizer_folder: Path, max_bytes: int = 2_000_000) -> dict[str, Estimate]:
    """An estimate for each text of the recipe, by name, from about ``max_bytes`` of all together.

    Steps and near-duplicates are tried on the sample; benchmark items that no file lists yet are not.

    Raises:
        DataError: if a text is missing, a file of the sample cannot be read, or the steps drop all of it.
        ModelError: if the tokenizer cannot be read.
    """
    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    samples = {text.name: _sample(text, recipe, max_bytes // len(recipe.texts)) for text in recipe.texts}
    _drop_duplicates(list(samples.values()), recipe.data.near_duplicates)
    return {t.name: _estimate(samples[t.name], tokenizer, recipe.steps_of(t)) for t in recipe.texts}


def with_own_replay(recipe: Recipe, tokenizer_folder: Path, share: float) -> Recipe:
    """The recipe with so large a ``share`` of replay that its base is to write, by the estimated size of its texts."""
    sizes = {name: text.tokens for name, text in sample_texts(recipe, tokenizer_folder).items()}
    tokens = training_tokens(recipe, sizes, recipe.hyperparameters.epochs)
    return recipe.replaying(own_replay(share, tokens, list(sizes)))


def sample_corpus(recipe: Recipe, max_bytes: int, characters: int) -> list[str]:
    """Beginnings of so many ``characters`` of cleaned documents of the sources, from all over them.

    Raises:
        DataError: if a text is missing, a file of the sample cannot be read, or the steps drop all of it.
    """
    found, each = list[str](), max_bytes // len(recipe.data.sources)
    for source in recipe.data.sources:
        read = _sample(source, recipe, 4 * each).cleaned
        texts = [text for one in read if one and (text := one[:characters].strip())]
        share = min(1.0, each / max(1, sum(len(text.encode()) for text in texts)))
        found += [text for n, text in enumerate(texts) if int(n * share) < int((n + 1) * share) or not n]
    return found


def _estimate(sample: _Sample, tokenizer: DocumentTokenizer, steps: Sequence[Step]) -> Estimate:
    kept = [text for text in sample.cleaned if text is not None]
    kept_bytes = sum(len(text.encode()) for text in kept)
    scale = sample.size / sample.disk
    documents = sample.files / sample.opened * sample.documents if sample.alone else scale * sample.documents
    each = documents / len(sample.cleaned)
    size = round(scale * sample.bytes * kept_bytes / sample.looked_at)
    tokens = size * sum(map(len, tokenizer.encode_batch(kept))) / max(1, kept_bytes)
    dropped = {rule: round(n * each) for rule, n in in_order(steps, sample.dropped).items()}
    return Estimate(sample.files, size, round(each * len(kept)), round(tokens), dropped=dropped)


def _sample(text: Text, recipe: Recipe, budget: int) -> _Sample:
    listing = list_files(text.paths, text.format, text.connection)
    found: list[File] = []
    for path in listing.files:
        try:
            found.append(listing.file(path, text.connection))
        except DataError:
            if text.on_bad_file == "stop":
                raise
    steps = [s for s in recipe.steps_of(text) if not (isinstance(s, Decontaminate) and s.path is None)]
    rules = build_steps(steps)
    sample = _Sample(len(found), sum(file.signature.size for file in found))
    found.sort(key=lambda file: blake2b(file.uri.encode("utf-8", "surrogateescape")).digest())  # as if drawn by lot
    for file in found[: _REMOTE_FILES if any(is_remote(file.uri) for file in found) else _FILES]:
        if sample.looked_at >= budget:
            break
        try:
            texts = _read(file, text, budget // min(_PARTS, len(found)), sample)
        except DataError:
            if text.on_bad_file == "stop":
                raise
            continue
        sample.looked_at += sum(len(one.encode()) for one in texts)
        for left in clean(texts, rules):
            sample.cleaned.append(left if isinstance(left, str) else None)
            sample.dropped.update([] if isinstance(left, str) else [left[0]])
    where = f"source {text.name}: {', '.join(text.paths)}"
    if not sample.cleaned:
        raise DataError("there is no document in it", where=where)
    if sample.dropped.total() == len(sample.cleaned):
        reasons = ", ".join(f"{reason}: {n}" for reason, n in sample.dropped.most_common())
        raise DataError(f"the steps drop every document of a sample ({reasons})", where=where, remedy="see data.steps")
    return sample


def _read(file: File, text: Text, budget: int, sample: _Sample) -> list[str]:
    """The first ``budget`` bytes of documents; read until then and a whole block of the file is used up."""
    meter, texts = Meter(), list[str]()
    before = taken = documents = 0
    for item in read_documents(file, text.format, text.text_column, meter=meter):
        if meter.bytes > before:  # the documents so far came from the blocks before this one
            if before and taken >= budget:
                sample.disk, sample.alone = sample.disk + before, False
                break
            before = meter.bytes
        if isinstance(item, Document):
            one = item.text
            if taken < budget:
                texts.append(one)
            taken += len(one.encode())
            documents += 1
    else:
        sample.disk += file.signature.size
        sample.alone &= documents <= 1
    sample.opened += 1
    sample.bytes += taken
    sample.documents += documents
    return texts


def _drop_duplicates(samples: Sequence[_Sample], near: NearDuplicates | None) -> None:
    """Drop what stands in the sample twice, or nearly: of equal texts the first stays, of alike ones the longest."""
    seen: set[bytes] = set()
    left: list[tuple[_Sample, int, str]] = []
    for sample in samples:
        for index, text in enumerate(sample.cleaned):
            if text is not None and (mark := identity(text.encode())) not in seen:
                seen.add(mark)
                left.append((sample, index, text))
            elif text is not None:
                _drop(sample, index, "duplicate")
    if near is None:
        return
    texts = [text for _, _, text in left]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sample")
        write_signatures(path, signatures(texts, near), near)
        kept = near_duplicates([path], np.array([len(text.encode()) for text in texts]), near)
    for number in np.flatnonzero(kept != np.arange(len(kept))).tolist():
        _drop(*left[number][:2], "near duplicate")


def _drop(sample: _Sample, index: int, reason: str) -> None:
    sample.cleaned[index] = None
    sample.dropped[reason] += 1
