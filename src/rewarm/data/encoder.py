"""Which library makes the ids of a dataset: ``fastokens``, where it makes those of ``tokenizers``.

Both encode a sample of the corpus and a fixed list of texts that are hard to get right. One other id
anywhere, and the dataset is encoded with ``tokenizers``, which is what the model was trained with.
The answer depends on the tokenizer, the corpus and the two libraries alone; it is found once, and told
to all workers.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from rewarm.core.errors import DataError
from rewarm.data.documents import Document
from rewarm.data.files import Meter
from rewarm.data.slices import Slice
from rewarm.data.tokenizer import FAST, STOCK, DocumentTokenizer

_SLICES, _SAMPLE, _LONGEST = 32, 1 << 18, 1 << 16
"""Slices that the sample is taken from, characters of it (more where one document has them), and of a document."""
_BATCH = 64
_SCRIPTS = (range(0x3400), range(0xA000, 0xAC00), range(0xF900, 0x17000), range(0x1B000, 0x20000))
"""All characters but Han, Hangul, Tangut and private ones, of which there are many and all alike."""
_ODD = (
    "", " ", "\n", "  \n\n \n", "\r\n\r\n", "\t\t x\t", "a  b   c    d", "\u3000e\u00a0f\u2028g\x85h\x1fi\x0bj",
    "\ufeff\u200b\u00ad\u2060", "I'm, you'RE, it\u2019s, 's 'S '\u017f 'LL' ''d ' t", "3.14 1,000,000 1234567890123",
    "٣٤٥ ½ ² Ⅷ ①", "İıſßKÅﬁ ǅ ŉ ΐ", "e\u0301\u0323 ở\u0323 \u0301\u0302\u0303", "\ue000\U000e0041\uffff\U0010ffff",
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1fb\U0001f1f3\U0001f1ec\U0001f1e7 ❤️",
    "한국어 ภาษาไทย ខ្មែរ हिन्दी العربيّة עִבְרִית 日本語テキスト 汉字",
    "def f(x):\n    return x  # ok\n\n\n\tif a!=b: pass;;",
    "https://example.org/a?b=c&d=%20e#f_g-h", "<|a|> <b> [C] <|>|<", "▁a ▁▁ Ġb Ċ Ã©",
    *(unit * 1000 for unit in ("x", "ab", "é", "漢字", " ", "\n", " \n", "\t ", "7", "-=", "\U0001f642", "a1", "A")),
)  # fmt: skip


class Encoder(NamedTuple):
    """The library that encodes a dataset, how many documents of it were checked, and why it is not the fast one."""

    name: str
    version: str
    checked_documents: int
    fallback: str | None


def choose_encoder(tokenizer: DocumentTokenizer, parts: Sequence[Slice]) -> Encoder:
    """Check the fast library against the stock one on texts of ``parts`` and on texts that are hard to encode."""
    sample = list(_sample(parts))
    hard = [unicodedata.normalize("NFC", text) for text in (*_ODD, *_lookalikes(tokenizer), *_every_character())]
    try:
        fast = tokenizer.with_encoder(FAST)
        different = [_different(tokenizer, fast, texts) for texts in (sample, hard)]
        if not any(different):
            return Encoder(FAST, version(FAST), len(sample), None)
        reason = f"it makes other ids of {different[0]} of {len(sample)} documents and of {different[1]} hard texts"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic on the Rust side is no Exception
        reason = f"it does not take this tokenizer: {error}"
    return Encoder(STOCK, version(STOCK), len(sample), f"{FAST}: {reason}")


def _different(stock: DocumentTokenizer, fast: DocumentTokenizer, texts: Sequence[str]) -> int:
    batches = [texts[begin : begin + _BATCH] for begin in range(0, len(texts), _BATCH)]
    pairs = (zip(stock.encode_batch(batch), fast.encode_batch(batch), strict=True) for batch in batches)
    return sum(not np.array_equal(a, b) for a, b in itertools.chain.from_iterable(pairs))


def _sample(parts: Sequence[Slice]) -> Iterator[str]:
    """The first documents of slices that lie evenly over the corpus."""
    chosen = parts[:: max(1, -(-len(parts) // _SLICES))]
    for part in chosen:
        left = _SAMPLE // len(chosen)
        try:
            for item in itertools.chain.from_iterable(part.documents(i, Meter()) for i in range(len(part.files))):
                if isinstance(item, Document):
                    yield item.text[:_LONGEST]
                    left -= len(item.text)
                if left <= 0:
                    break
        except DataError:  # pass 1 says what is wrong with the file, and whether that matters
            continue


def _lookalikes(tokenizer: DocumentTokenizer) -> Iterator[str]:
    """The names of added tokens, as a page about them would have them."""
    for name in tokenizer.added_tokens:
        yield f"a{name}b {name} {name}{name}\n{name[:-1]} 1{name}."


def _every_character() -> Iterator[str]:
    """Libraries differ in the Unicode version of their tables of letters, marks and digits."""
    for block in itertools.chain.from_iterable(range(s.start, s.stop, 256) for s in _SCRIPTS):
        yield "".join(f"a{chr(code)}1" for code in range(block, block + 256))
