"""Which library makes the ids of a dataset: ``fastokens``, where it makes those of ``tokenizers``.

Both encode a sample of the corpus and a fixed list of texts that are hard to get right. One other id
anywhere, and the dataset is encoded with ``tokenizers``, which is what the model was trained with. The
answer depends on the tokenizer, the sample and the two libraries alone, and is kept: loading both takes
longer than a new file does, and a corpus that grows has the same sample most of the time. A corpus so
small that ``tokenizers`` is sooner done with it is not checked at all.
"""

from __future__ import annotations

import itertools
import platform
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np
import orjson

from rewarm.core.errors import DataError, Unreachable
from rewarm.core.manifest import canonical
from rewarm.core.storage import read_checked, sha256_bytes, write_checked
from rewarm.data.documents import Document
from rewarm.data.files import Meter
from rewarm.data.signature import UnsettledError
from rewarm.data.slices import Slice
from rewarm.data.steps.words import grouped
from rewarm.data.tokenizer import FAST, STOCK, DocumentTokenizer

SMALL = 4 << 20
"""Bytes of text that ``tokenizers`` has encoded before ``fastokens`` is loaded and checked."""
VERSION = 1
"""Goes up whenever something else is checked."""
_SLICES, _SAMPLE, _LONGEST = 16, 1 << 18, 1 << 16
"""Slices that the sample is taken from, characters of it (more where one document has them), and of a document."""
_ENGLISH = 100_000  # characters
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


def choose_encoder(tokenizer: DocumentTokenizer, parts: Sequence[Slice], folder: Path) -> Encoder:
    """The encoder for the texts of ``parts``; what was found is kept in ``folder``."""
    if sum(part.text_bytes for part in parts) < SMALL:
        return Encoder(STOCK, version(STOCK), 0, None)
    chosen = _chosen(parts)
    facts = [VERSION, tokenizer.hash, version(STOCK), version(FAST), unicodedata.unidata_version]
    keys = [part.key() for part in chosen]
    return Encoder(**_kept(folder, [*facts, keys], lambda: check_encoder(tokenizer, chosen)._asdict()))


def english_bytes_per_token(tokenizer: DocumentTokenizer, folder: Path) -> float:
    """UTF-8 bytes of English that a token holds, on text that every Python has: what other text is compared with."""

    def find() -> float:
        text = "".join(topics[name] for name in sorted(topics))[:_ENGLISH]
        return len(text.encode()) / len(tokenizer.encode_batch([text])[0])

    return float(_kept(folder, ["english", tokenizer.hash, version(STOCK), platform.python_version()], find))


def _kept(folder: Path, facts: list[Any], find: Callable[[], Any]) -> Any:
    """What ``find`` returns (JSON), looked up where it was found before with the same facts."""
    path = folder / f"{sha256_bytes(canonical(facts))[:32]}.json"
    if (content := read_checked(path)) is None:
        write_checked(path, content := canonical(find()))
    return orjson.loads(content)


def check_encoder(tokenizer: DocumentTokenizer, parts: Sequence[Slice]) -> Encoder:
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
    batches = grouped(texts, lambda text: 1, _BATCH)
    pairs = (zip(stock.encode_batch(batch), fast.encode_batch(batch), strict=True) for batch in batches)
    return sum(not np.array_equal(a, b) for a, b in itertools.chain.from_iterable(pairs))


def _chosen(parts: Sequence[Slice]) -> list[Slice]:
    """Slices that are drawn by lot, of each source as many: others that come or go change little."""
    lots: dict[str, list[tuple[str, int]]] = {}
    for index, part in enumerate(parts):
        lots.setdefault(part.source, []).append((part.key(), index))
    most = max(1, _SLICES // len(lots))
    return [parts[index] for lot in lots.values() for _, index in sorted(lot)[:most]]


def _sample(parts: Sequence[Slice]) -> Iterator[str]:
    """The first documents of each slice."""
    for part in parts:
        left = _SAMPLE // len(parts)
        try:
            for item in itertools.chain.from_iterable(part.documents(i, Meter()) for i in range(len(part.files))):
                if isinstance(item, Document):
                    yield item.text[:_LONGEST]
                    left -= len(item.raw)
                if left <= 0:
                    break
        except (UnsettledError, Unreachable):  # a smaller sample must not be what is remembered
            raise
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
