"""How far a corpus lies from its base model: the base reads some of it, and texts that it wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rewarm.core.errors import ModelError
from rewarm.data.sample import sample_corpus
from rewarm.data.steps.language import languages
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.evaluate.bits_per_byte import bits_per_byte, score_documents, window_of
from rewarm.models.causal import CausalModel, load_model
from rewarm.models.folder import Progress
from rewarm.models.generate import load_writer
from rewarm.models.sampling import sample
from rewarm.pipeline.base import Base
from rewarm.recipe.estimate import WINDOW
from rewarm.recipe.facts import Machine, usable_cores
from rewarm.recipe.recipe import Generate, Recipe
from rewarm.recipe.resolve import device_for
from rewarm.recipe.shift import Shift, shift_of

BYTES, EACH = 24_000, 1_500
"""Of the corpus that are scored; and characters of a document, so that they are of many."""
TEXTS, TEXTS_WRITTEN = Generate(max_tokens=160), 24
"""How the base's own texts are written, and how many."""


def measure_shift(recipe: Recipe, base: Base, progress: Progress) -> Shift:
    """The kind of shift that the recipe's sources are for ``base``, and the replay that it takes.

    Raises:
        DataError: if the corpus cannot be read. ModelError: if the base can write nothing of its own.
    """
    folder, corpus = base.folder, sample_corpus(recipe, BYTES, EACH)
    tokenizer = DocumentTokenizer.load(folder, recipe.data.document_tokens)
    device = torch.device(device_for(recipe, Machine.here()))
    torch.set_num_threads(recipe.infrastructure.threads or usable_cores())
    progress("write texts", 0, 1, "step")
    if (start := tokenizer.context_id) is None:
        raise ModelError(
            "this tokenizer has no token that a text could begin with, so the base can write none",
            where=folder,
            remedy="give data.replay with a path and a share",
        )
    writer = load_writer(folder, device, hashes=False)
    own = [one.text for one in sample(writer, start, range(TEXTS_WRITTEN), TEXTS) if one.text]
    if not own:
        raise ModelError("the base model writes nothing but empty texts", where=folder)
    del writer  # two of a large model would not fit
    model = load_model(folder, device=device)
    bits = [bits_of(texts, model, tokenizer, device, BYTES, progress) for texts in (corpus, own)]
    return shift_of(bits[0], bits[1], languages(corpus), languages(own))


def bits_of(
    texts: Sequence[str],
    model: CausalModel,
    tokenizer: DocumentTokenizer,
    device: torch.device,
    max_bytes: int,
    progress: Progress,
) -> float:
    """Bits per byte of ``texts``, each a document of its own, as those that are held out are scored."""
    items = score_documents(
        model,
        _Texts(texts, tokenizer),
        context_id=tokenizer.context_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        window=window_of(WINDOW, model.config),
        max_bytes=max_bytes,
        device=device,
        progress=progress,
    )
    return bits_per_byte(items)


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
