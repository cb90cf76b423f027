"""What the texts of a recipe hold, estimated from a sample, before anything heavy starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rewarm.core.errors import DataError
from rewarm.data.documents import Document, read_documents
from rewarm.data.files import File, Meter, list_files, signature
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.recipe.recipe import Recipe, Text

_FILES = 8


@dataclass(frozen=True)
class Estimate:
    """The figures of one text; all but ``files`` are estimates unless ``exact``."""

    files: int
    bytes: int  # UTF-8 bytes of text
    documents: int
    tokens: int
    exact: bool = False  # duplicates and what is held out are only known once the dataset is built


@dataclass
class _Sample:
    disk: int = 0
    bytes: int = 0
    documents: int = 0


def sample_texts(recipe: Recipe, tokenizer_folder: Path, max_bytes: int = 1_000_000) -> dict[str, Estimate]:
    """An estimate for each text of the recipe, by name, from about ``max_bytes`` of each.

    Raises:
        DataError: if a text is missing, or a file of the sample cannot be read.
        ModelError: if the tokenizer cannot be read.
    """
    tokenizer = DocumentTokenizer.load(tokenizer_folder, recipe.data.document_tokens)
    return {text.name: _estimate(text, tokenizer, max_bytes) for text in recipe.texts}


def _estimate(text: Text, tokenizer: DocumentTokenizer, max_bytes: int) -> Estimate:
    listing = list_files(text.paths, text.format, text.connection)
    found: list[File] = []
    total = _Sample()
    texts: list[str] = []
    for path in listing.files:
        try:
            found.append(File(path, listing.signatures.get(path) or signature(path), text.connection))
        except DataError:
            if text.on_bad_file == "stop":
                raise
    chosen = found[:: max(1, -(-len(found) // _FILES))]
    for file in chosen:
        try:
            _read(file, text, max_bytes // len(chosen), total, texts)
        except DataError:
            if text.on_bad_file == "stop":
                raise
    if not texts:
        raise DataError("there is no document in it", where=f"source {text.name}: {', '.join(text.paths)}")
    scale = sum(file.signature.size for file in found) / total.disk
    encoded = tokenizer.encode_batch(texts)
    per_byte = sum(map(len, encoded)) / sum(len(t.encode()) for t in texts)
    size = round(scale * total.bytes)
    return Estimate(len(listing.files), size, round(scale * total.documents), round(size * per_byte))


def _read(file: File, text: Text, budget: int, total: _Sample, texts: list[str]) -> None:
    """Read until the budget of text is reached and a whole block of the file is used up, or to the end."""
    meter, taken = Meter(), _Sample()
    before = 0
    for item in read_documents(file, text.format, text.text_column, meter=meter):
        if meter.bytes > before:  # the documents so far came from the blocks before this one
            if before and taken.bytes >= budget:
                total.disk += before
                break
            before = meter.bytes
        if isinstance(item, Document):
            length = len(item.text.encode())
            if taken.bytes < budget:
                texts.append(item.text)
            taken.bytes += length
            taken.documents += 1
    else:
        total.disk += file.signature.size
    total.bytes += taken.bytes
    total.documents += taken.documents
