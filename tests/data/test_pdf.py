"""A PDF is one document: its text page after page, or the reason why there is none."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from rewarm.core.errors import DataError
from rewarm.data.documents import Document, Reject, read_documents
from rewarm.data.prepare import build_dataset
from tests.data.conftest import MakeRecipe
from tests.data.test_prepare import texts_of

LOCK = b"<</Filter/Standard/V 1/R 2/P -4/O<" + b"41" * 32 + b">/U<" + b"42" * 32 + b">>>"


def pdf(*pages: str, lock: bytes = b"") -> bytes:
    """A file of one line a page, as the specification (ISO 32000-1, annex H) has the smallest; ``lock`` encrypts it."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for n, text in enumerate(pages):
        drawn = f"BT /F 12 Tf 72 720 Td ({text}) Tj ET".encode("cp1252")
        page = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F 3 0 R>>>>/Contents {5 + 2 * n} 0 R>>"
        )
        bodies += [page.encode(), f"<</Length {len(drawn)}>>stream\n".encode() + drawn + b"\nendstream"]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += f"{number} 0 obj".encode() + body + b"endobj\n"
    table = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n" + "".join(f"{at:010} 00000 n \n" for at in places)
    lock = lock and b"/ID[<41><41>]/Encrypt" + lock
    trailer = f"trailer<</Size {len(places) + 1}/Root 1 0 R".encode() + lock + f">>\nstartxref\n{len(out)}\n".encode()
    return out + table.encode() + trailer + b"%%EOF\n"


def read(path: Path, data: bytes) -> list[Document | Reject]:
    path.write_bytes(data)
    return list(read_documents(path))


@pytest.mark.parametrize("name", ["a.pdf", "a.pdf.gz", "a"])
def test_the_text_of_all_pages_in_their_order(tmp_path: Path, name: str) -> None:
    data = pdf("One café.", "Two.")
    packed = gzip.compress(data) if name.endswith("gz") else data
    assert read(tmp_path / name, packed) == [Document("One café.\nTwo.")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf("secret", lock=LOCK), "encrypted PDF"),
        (pdf("One.", "Two.")[:-100], "broken PDF"),
        (pdf("One.") + bytes(5000), "broken PDF"),
        (b"%PDF-1.4\n%%EOF", "broken PDF"),
        (b"", "broken PDF"),
        (pdf(""), "empty text"),  # as scanned pages are
    ],
    ids=["encrypted", "cut", "grown", "nothing", "empty", "scanned"],
)
def test_what_gives_no_text_is_rejected_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    assert read(tmp_path / "a.pdf", data) == [Reject(1, reason)]


def test_a_folder_of_them_is_a_source(tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.pdf").write_bytes(pdf(f"Document {number}.", lock=LOCK if number == 7 else b""))
    dataset = build_dataset(make_recipe(folder, max_rejected=0.1), tokenizer_folder, tmp_path / "d", workers=1)
    (entry,) = dataset.manifest["sources"]
    assert (entry["documents_in"], entry["rejected"]) == (20, {"encrypted PDF": 1})
    assert {text for part in texts_of(dataset, tokenizer_folder) for text in part} == {
        f"Document {number}." for number in range(20) if number != 7
    }


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)  # as Python finds it where it is not installed
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.pdf", pdf("One."))
    assert error.value.remedy == "pip install 'rewarm[pdf]'" and error.value.where == str(tmp_path / "a.pdf")
