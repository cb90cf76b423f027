"""Pass 1 over a slice of a source: the hash and size of each document, and every reject.

What was found is kept under the hash of the content that it was found in, so nothing is read twice
for it, and a killed build loses the slices in work and no more. The identity of a document is the
128-bit BLAKE2b of its NFC text in UTF-8.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from rewarm.core.errors import DataError
from rewarm.core.storage import sha256_bytes, write_file
from rewarm.data.files import Meter
from rewarm.data.slices import ChangedError, Slice

PLACES = 20
"""Places of rejects that are kept of a slice and of a source."""
ID_BYTES = 16


@dataclass
class Scan:
    """What pass 1 found in a slice. ``documents`` and ``errors`` have one entry for each file."""

    ids: npt.NDArray[np.uint8]  # (documents, 16)
    sizes: npt.NDArray[np.uint32]  # (documents,) UTF-8 bytes
    documents: list[int]
    errors: list[str | None]  # why a file cannot be used; nothing of it is
    rejected: dict[str, int] = field(default_factory=dict)
    places: list[tuple[int, str, int, str]] = field(default_factory=list)  # file, member, line, reason
    lines: int = 0

    def save(self, path: Path) -> None:
        body = self.ids.tobytes() + self.sizes.astype("<u4").tobytes()
        header = {
            "documents": self.documents,
            "errors": self.errors,
            "rejected": self.rejected,
            "places": self.places,
            "lines": self.lines,
            "body": sha256_bytes(body),
        }
        write_file(path, orjson.dumps(header) + b"\n" + body)

    @classmethod
    def load(cls, path: Path, check: bool = True) -> Scan | None:
        """A saved scan; None where there is none, or (if that is to be checked) a damaged one."""
        try:
            head, _, body = path.read_bytes().partition(b"\n")
            header = orjson.loads(head)
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        wanted = header.pop("body", None)
        if check and wanted != sha256_bytes(body):
            return None
        count = sum(header["documents"])
        ids = np.frombuffer(body, np.uint8, count * ID_BYTES).reshape(count, ID_BYTES)
        places = [tuple(place) for place in header.pop("places")]
        return cls(ids, np.frombuffer(body, "<u4", count, count * ID_BYTES), places=places, **header)


def identity(text: bytes) -> bytes:
    """The 16 bytes that a document is known by."""
    return blake2b(text, digest_size=ID_BYTES).digest()


def scan_slice(part: Slice, report: Callable[[int], None]) -> Scan:
    """Read every file of a slice; ``report`` is told the bytes read so far.

    Raises:
        ChangedError: if a file changed; a damaged one is an entry of ``errors``.
    """
    ids, sizes, documents = bytearray(), array("I"), []
    errors: list[str | None] = []
    rejected: Counter[str] = Counter()
    places: list[tuple[int, str, int, str]] = []
    done = all_lines = 0
    for index, file in enumerate(part.files):
        meter, before, found = Meter(), len(sizes), Counter[str]()
        here: list[tuple[int, str, int, str]] = []
        try:
            for item in part.documents(index, meter):
                if isinstance(item, str):
                    data = item.encode()
                    ids += identity(data)
                    sizes.append(len(data))
                else:
                    found[item.reason] += 1
                    if len(here) < PLACES:
                        here.append((index, item.member, item.line, item.reason))
                if not (len(sizes) & 255):
                    report(done + meter.bytes)
        except ChangedError:
            raise
        except DataError as error:
            errors.append(f"{error.what}\n{error.remedy or ''}")
            del ids[before * ID_BYTES :], sizes[before:]
        else:
            errors.append(None)
            rejected.update(found)
            places = (places + here)[:PLACES]
        documents.append(len(sizes) - before)
        all_lines += meter.lines
        done += part.bytes if part.end is not None else file.signature[0]
        report(done)
    array_ids = np.frombuffer(bytes(ids), np.uint8).reshape(-1, ID_BYTES)
    return Scan(array_ids, np.array(sizes, np.uint32), documents, errors, dict(rejected), places, all_lines)
