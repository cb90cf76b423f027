"""Pass 1 over a slice of a source: each document cleaned, its hash and size noted, and every drop and reject.

What was found is kept under the hash of the content that it was found in, so nothing is read twice
for it, and a killed build loses the slices in work and no more. The identity of a document is the
128-bit BLAKE2b of its cleaned NFC text in UTF-8.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import orjson

from rewarm.core.errors import DataError, Unreachable
from rewarm.core.storage import read_checked, sha256_file, write_checked
from rewarm.data.documents import Document, Reject
from rewarm.data.files import Meter
from rewarm.data.minhash import Signatures, signatures
from rewarm.data.near_duplicates import write_signatures
from rewarm.data.signature import UnsettledError
from rewarm.data.slices import Slice
from rewarm.data.steps import Drop, Rule
from rewarm.data.steps.words import BATCH, Texts, batches

if TYPE_CHECKING:  # workers import this module, and pydantic costs them a quarter of a second
    from rewarm.recipe.steps import NearDuplicates

PLACES = 20
"""Places of rejects that are kept of a slice and of a source."""
SAMPLES = 3
"""Documents of each drop reason that are kept of a slice and of a source, to look at."""
SITES = 200
"""Web sites of a slice that are counted; the others stand together under no name."""
ID_BYTES = 16
_EXCERPT = 300  # characters of a sample
_BATCH_BYTES = 1 << 20  # of text that is hashed together for near-duplicates


class Sample(NamedTuple):
    """A dropped document: file of the slice, line or record, what the rule measured, how the text begins."""

    file: int
    line: int
    value: float | str | None
    text: str


@dataclass
class Scan:
    """What pass 1 found in a slice. ``documents``, ``read`` and ``errors`` have one entry for each file."""

    ids: npt.NDArray[np.uint8]  # (documents, 16)
    sizes: npt.NDArray[np.uint32]  # (documents,) UTF-8 bytes
    kept: npt.NDArray[np.bool_]  # (documents read,) False where a rule dropped one
    documents: list[int] = field(default_factory=list)  # kept
    read: list[int] = field(default_factory=list)  # kept and dropped
    errors: list[str | None] = field(default_factory=list)  # why a file cannot be used; nothing of it is
    rejected: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)  # by rule and reason
    places: list[tuple[int, str, int, str]] = field(default_factory=list)  # file, member, line, reason
    samples: dict[str, list[Sample]] = field(default_factory=dict)  # of what was dropped, by rule and reason
    flagged: dict[str, list[str]] = field(default_factory=dict)  # benchmark items found in the text, by rule and reason
    sites: dict[str, int] = field(default_factory=dict)  # bytes of what was kept, by host of its URL
    ignored: list[tuple[int, str]] = field(default_factory=list)  # members of archives: file, member
    columns: list[str] = field(default_factory=list)  # that texts were found in
    lines: int = 0

    def save(self, path: Path, minhash: Path | None = None) -> None:
        """Write the scan; ``minhash``, the file beside it with the signatures of its documents, belongs to it."""
        body = self.ids.tobytes() + self.sizes.astype("<u4").tobytes() + np.packbits(self.kept).tobytes()
        header = {f.name: getattr(self, f.name) for f in fields(self)[3:]}  # what comes before is in the body
        header["samples"] = {rule: [list(sample) for sample in some] for rule, some in self.samples.items()}
        write_checked(path, orjson.dumps(header | {"minhash": minhash and sha256_file(minhash)}) + b"\n" + body)

    @classmethod
    def load(cls, path: Path, check: bool = True) -> Scan | None:
        """A saved scan; None where there is none, or (if that is to be checked) a damaged one."""
        if (content := read_checked(path, check)) is None:
            return None
        head, _, body = content.partition(b"\n")
        header = orjson.loads(head)
        if (minhash := header.pop("minhash")) is not None and check:
            there = minhash_path(path)
            if not there.exists() or sha256_file(there) != minhash:
                return None
        count, read = sum(header["documents"]), sum(header["read"])
        header["places"] = [tuple(place) for place in header["places"]]
        header["samples"] = {rule: [Sample(*s) for s in some] for rule, some in header["samples"].items()}
        return cls(
            np.frombuffer(body, np.uint8, count * ID_BYTES).reshape(count, ID_BYTES),
            np.frombuffer(body, "<u4", count, count * ID_BYTES),
            np.unpackbits(np.frombuffer(body, np.uint8, offset=count * (ID_BYTES + 4)), count=read).astype(bool),
            **header,
        )


def loaded(path: Path, check: bool = True) -> Scan:
    """A scan that must be there. Raises ``DataError`` if it is not, or is damaged."""
    scan = Scan.load(path, check)
    if scan is None:
        raise DataError("the record of the first pass is gone or damaged", where=path, remedy="run again")
    return scan


def minhash_path(scan: Path) -> Path:
    """Where the signatures of a scan's documents lie."""
    return scan.with_suffix(".minhash")


def identity(text: bytes) -> bytes:
    """The 16 bytes that a document is known by."""
    return blake2b(text, digest_size=ID_BYTES).digest()


def clean(texts: Sequence[str], rules: Sequence[Rule]) -> list[str | tuple[str, Drop]]:
    """What the rules leave of each text, or the name of the first one that drops it with what that said."""
    return [answer for some in batches(texts) for answer in _clean(some, rules)]


def _clean(now: Texts, rules: Sequence[Rule]) -> list[str | tuple[str, Drop]]:
    """The same of as many texts as are measured at once: what a rule has changed may be longer, and is parted anew."""
    answers: list[str | tuple[str, Drop]] = list(now.texts)
    left = list(range(len(answers)))
    for number, rule in enumerate(rules, 1):
        results = rule.apply(now)
        if rule.changes:
            results = [text if isinstance(text, Drop) else _nfc(text) for text in results]
        for index, result in zip(left, results, strict=True):
            answers[index] = (f"{rule.name}: {result.reason}", result) if isinstance(result, Drop) else result
        kept = [isinstance(result, str) for result in results]
        left = list(compress(left, kept))
        if rule.changes:
            changed = clean([text for text in results if isinstance(text, str)], rules[number:])
            for index, answer in zip(left, changed, strict=True):
                answers[index] = answer
            return answers
        now = now.of(kept)
    return answers


def _nfc(text: str) -> str | Drop:
    text = unicodedata.normalize("NFC", text)
    return text if text and not text.isspace() else Drop("nothing left")


class _Found:
    """What comes together from one file, and goes if the file turns out to be damaged."""

    def __init__(self, file: int, rules: Sequence[Rule], near: NearDuplicates | None) -> None:
        self.file, self.rules, self.near = file, rules, near
        self.ids, self.sizes, self.kept = bytearray(), array("I"), bytearray()
        self.rejected, self.dropped, self.sites = Counter[str](), Counter[str](), Counter[str]()
        self.places: list[tuple[int, str, int, str]] = []
        self.samples: dict[str, list[Sample]] = {}
        self.flagged: dict[str, set[str]] = {}
        self.minhash: list[Signatures] = []
        self._raw: list[tuple[Document, int]] = []
        self._characters = 0
        self._waiting: list[str] = []
        self._bytes = 0

    def add(self, document: Document, line: int) -> bool:
        """Take in a document; true where it and those before it were cleaned."""
        self._raw.append((document, line))
        self._characters += len(document.raw)
        if full := self._characters >= BATCH:
            self.clean()
        return full

    def clean(self) -> None:
        """Clean what was taken in."""
        raw, self._raw, self._characters = self._raw, [], 0
        texts = [document.text for document, _ in raw]
        for (document, line), text, left in zip(raw, texts, clean(texts, self.rules), strict=True):
            if isinstance(left, str):
                self.keep(left, document.url)
            else:
                self.drop(*left, text, line)

    def reject(self, item: Reject) -> None:
        self.rejected[item.reason] += 1
        if len(self.places) < PLACES:
            self.places.append((self.file, item.member, item.line, item.reason))

    def drop(self, rule: str, drop: Drop, text: str, line: int) -> None:
        self.kept.append(0)
        self.dropped[rule] += 1
        for reason, item in drop.flagged:
            self.flagged.setdefault(rule.removesuffix(drop.reason) + reason, set()).add(item)
        some = self.samples.setdefault(rule, [])
        if len(some) < SAMPLES:
            some.append(Sample(self.file, line, drop.value, text[:_EXCERPT]))

    def keep(self, text: str, url: str) -> None:
        data = text.encode()
        self.kept.append(1)
        self.ids += identity(data)
        self.sizes.append(len(data))
        if url:
            self.sites[site(url)] += len(data)
        if self.near is not None:
            self._waiting.append(text)
            self._bytes += len(data)
            if self._bytes >= _BATCH_BYTES:
                self.sign()

    def sign(self) -> None:
        if self.near is not None and self._waiting:
            self.minhash.append(signatures(self._waiting, self.near))
            self._waiting, self._bytes = [], 0


def site(url: str) -> str:
    """The host of a URL without ``www.``; empty where there is none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")


def scan_slice(
    part: Slice, rules: Sequence[Rule], near: NearDuplicates | None, path: Path, report: Callable[[int], None]
) -> None:
    """Read and clean every file of a slice and save what was found; ``report`` is told the bytes read so far.

    Raises:
        UnsettledError, Unreachable: if a file changed or its server fails; a damaged one is an entry of ``errors``.
    """
    scan = Scan(np.zeros((0, ID_BYTES), np.uint8), np.zeros(0, np.uint32), np.zeros(0, bool))
    good: list[_Found] = []
    dropped, rejected, sites = Counter[str](), Counter[str](), Counter[str]()
    done = 0
    for index, file in enumerate(part.files):
        meter, found = Meter(), _Found(index, rules, near)
        try:
            for item in part.documents(index, meter):
                if isinstance(item, Reject):
                    found.reject(item)
                elif found.add(item, meter.lines):
                    report(done + meter.bytes)
            found.clean()
            found.sign()
        except (UnsettledError, Unreachable):
            raise
        except DataError as error:
            scan.errors.append(f"{error.what}\n{error.remedy or ''}")
            found = _Found(index, [], None)
        else:
            scan.errors.append(None)
            scan.ignored += [(index, member) for member in meter.ignored]
            scan.columns = sorted(meter.columns.union(scan.columns))
        good.append(found)
        scan.documents.append(len(found.sizes))
        scan.read.append(len(found.kept))
        scan.places = (scan.places + found.places)[:PLACES]
        for rule, some in found.samples.items():
            scan.samples[rule] = (scan.samples.get(rule, []) + some)[:SAMPLES]
        for rule, items in found.flagged.items():
            scan.flagged[rule] = sorted(items.union(scan.flagged.get(rule, [])))
        for total, more in ((dropped, found.dropped), (rejected, found.rejected), (sites, found.sites)):
            total.update(more)
        scan.lines += meter.lines
        done += part.bytes if part.end is not None else file.signature[0]
        report(done)
    scan.dropped, scan.rejected, scan.sites = dict(dropped), dict(rejected), _most(sites)
    scan.ids = np.frombuffer(b"".join(f.ids for f in good), np.uint8).reshape(-1, ID_BYTES)
    scan.sizes = np.frombuffer(b"".join(f.sizes.tobytes() for f in good), np.uint32)
    scan.kept = np.frombuffer(b"".join(f.kept for f in good), bool)
    if near is None:
        scan.save(path)
        return
    signed = [block for found in good for block in found.minhash]
    write_signatures(minhash_path(path), np.concatenate([signatures([], near), *signed]), near)
    scan.save(path, minhash_path(path))


def _most(sites: Counter[str]) -> dict[str, int]:
    """The largest sites; the rest under the empty name."""
    most = dict(sorted(sites.items(), key=lambda item: (-item[1], item[0]))[:SITES])
    rest = sites.total() - sum(most.values())
    return most | ({"": most.get("", 0) + rest} if rest else {})
