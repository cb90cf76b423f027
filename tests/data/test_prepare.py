"""From files to a dataset: nothing lost, nothing trained on that is held out, the same bytes every time."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet
import pytest

from rewarm.core.errors import DataError, ResourceError, Stopped
from rewarm.core.manifest import verify
from rewarm.data.dataset import Dataset
from rewarm.data.prepare import build_dataset
from rewarm.data.sample import sample_texts
from rewarm.data.scan import identity
from rewarm.data.tokenizer import DocumentTokenizer
from rewarm.recipe.recipe import DocumentTokens, Recipe
from tests.data.conftest import MakeRecipe, write_jsonl


def entry_of(dataset: Dataset, name: str = "law") -> dict[str, Any]:
    entry = next(e for e in dataset.manifest["sources"] if e["name"] == name)
    accounted = (
        entry["accepted"] + entry["held_out"] + sum(entry["rejected"].values()) + sum(entry["filtered"].values())
    )
    assert accounted == entry["documents_in"]
    return entry


def texts_of(dataset: Dataset, folder: Path, name: str = "law") -> tuple[list[str], list[str]]:
    """What is trained on and what is held out, decoded."""
    tokenizer = DocumentTokenizer.load(folder)
    train, held = dataset.train(name), dataset.held_out(name)
    return (
        [tokenizer.decode(train.tokens(i)) for i in range(len(train))],
        [tokenizer.decode(held.tokens(i)) for i in range(len(held))],
    )


def worker_processes() -> list[psutil.Process]:
    """Children of this process that are workers; a server of other tests is none."""
    return [child for child in psutil.Process().children() if "rewarm.data.workers" in child.cmdline()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def law(tmp_path: Path, english: list[str]) -> Path:
    return write_jsonl(tmp_path / "corpus" / "law.jsonl", english)


def test_every_document_comes_back_and_the_figures_are_true(
    tmp_path: Path, law: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    seen: list[tuple[str, float, float, str]] = []
    recipe = make_recipe(law, held_out=0.2)
    built = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2, progress=lambda *p: seen.append(p))
    dataset = Dataset.open(built.path)
    train, held = texts_of(dataset, tokenizer_folder)
    assert sorted(train + held) == english
    entry, info = entry_of(dataset), dataset.sources["law"]
    assert entry["documents_in"] == len(english)
    assert (info.documents, info.held_out_documents) == (len(train), len(held))
    assert info.bytes == sum(len(t.encode()) for t in train)
    assert dataset.held_out("law").bytes.tolist() == [len(t.encode()) for t in held]
    assert dataset.held_out("law").ids == [identity(t.encode()).hex() for t in held]
    lengths = dataset.train("law").lengths
    assert info.tokens == lengths.sum() == sum(len(dataset.train("law").tokens(i)) for i in range(len(train)))
    assert [ids[-1] for ids in (dataset.train("law").tokens(i) for i in range(len(train)))] == [2] * len(train)
    assert {what for what, *_ in seen} == {"hash", "scan", "tokenize"}
    assert all(done <= total for _, done, total, _ in seen)


def test_held_out_is_chosen_by_the_hash_of_the_text(
    tmp_path: Path, law: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    dataset = build_dataset(make_recipe(law, held_out=0.45), tokenizer_folder, tmp_path / "d", workers=1)
    below = {identity(t.encode()).hex() for t in english if identity(t.encode()) < bytes([int(0.45 * 256) + 1])}
    exact = {i for i in below if int(i, 16) < 0.45 * 2**128}
    assert set(dataset.held_out("law").ids) == exact
    assert len(exact) >= 20


def test_the_first_build_tops_up_with_the_lowest_hashes_to_a_tenth(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    texts = [f"document {n:04d} of equal length" for n in range(600)]
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    dataset = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1)
    lowest = sorted(identity(t.encode()).hex() for t in texts)[:32]
    assert sorted(dataset.held_out("law").ids) == lowest

    few = write_jsonl(tmp_path / "few.jsonl", texts[:55])
    dataset = build_dataset(make_recipe(few), tokenizer_folder, tmp_path / "d", workers=1)
    assert dataset.sources["law"].held_out_documents == 5


def test_what_is_held_out_stays_held_out_when_the_corpus_grows(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    folder = tmp_path / "corpus"
    write_jsonl(folder / "b.jsonl", english[:40])
    first = build_dataset(make_recipe(folder), tokenizer_folder, tmp_path / "d", workers=1)
    held = set(first.held_out("law").ids)
    assert held
    write_jsonl(folder / "a.jsonl", english[40:])
    write_jsonl(tmp_path / "copy.jsonl", english)  # the same texts under another name
    second = build_dataset(
        make_recipe(folder, sources={"copy": tmp_path / "copy.jsonl"}), tokenizer_folder, tmp_path / "d", workers=1
    )
    assert second.hash != first.hash
    assert held <= set(second.held_out("law").ids)
    # also where another source comes first
    third = build_dataset(
        make_recipe(tmp_path / "copy.jsonl", sources={"grown": folder}), tokenizer_folder, tmp_path / "d", workers=1
    )
    trained = {identity(t.encode()).hex() for t in texts_of(third, tokenizer_folder)[0]}
    assert held <= set(third.held_out("law").ids)
    assert not held & trained


def test_what_is_held_out_under_one_path_is_held_out_under_every_other(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    def build(path: Path, share: float = 0.001) -> tuple[Dataset, set[str], set[str]]:
        seen: set[str] = set()
        recipe = make_recipe(path, held_out=share)
        dataset = build_dataset(
            recipe, tokenizer_folder, tmp_path / "d", workers=1, progress=lambda what, *_: seen.add(what)
        )
        return dataset, set(dataset.held_out("law").ids), seen

    here = write_jsonl(tmp_path / "here.jsonl", english[:60])
    there = write_jsonl(tmp_path / "there.jsonl", english[:60])
    first, held, _ = build(here)
    copy, _, seen = build(there)  # its first build: but what is held out already counts for the top-up
    assert held and copy.hash == first.hash and "tokenize" not in seen
    third = write_jsonl(tmp_path / "third.jsonl", english[20:80])
    more = build(third, 0.4)[1]
    ids = {identity(text.encode()).hex() for text in english[:60]}
    again, now, _ = build(here)
    assert now == held | (more & ids) > held
    assert not now & {identity(t.encode()).hex() for t in texts_of(again, tokenizer_folder)[0]}
    assert build(here)[0].hash == again.hash and build(here)[2] == {"hash"}


def test_duplicates_go_and_panels_come_first(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    write_jsonl(tmp_path / "law.jsonl", [*english[:40], english[3], english[50]])
    write_jsonl(tmp_path / "old.jsonl", [*english[45:70], english[5]])
    write_jsonl(tmp_path / "panel.jsonl", [*english[30:35], english[46], english[30]])
    recipe = make_recipe(
        tmp_path / "law.jsonl", replay=tmp_path / "old.jsonl", panels={"watched": tmp_path / "panel.jsonl"}
    )
    dataset = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2)
    assert list(dataset.sources) == ["watched", "law", "replay"]
    assert [s.role for s in dataset.sources.values()] == ["panel", "source", "replay"]
    panel, law, old = (entry_of(dataset, name) for name in ("watched", "law", "replay"))
    assert (panel["held_out"], panel["accepted"], panel["filtered"]["duplicate"]) == (6, 0, 1)
    assert law["filtered"]["duplicate"] == 5 + 1
    assert old["filtered"]["duplicate"] == 3
    everything = [t for name in dataset.sources for kind in texts_of(dataset, tokenizer_folder, name) for t in kind]
    assert sorted(everything) == sorted(set(english[:40] + english[45:70]))
    trained = {t for name in dataset.sources for t in texts_of(dataset, tokenizer_folder, name)[0]}
    assert not trained & {*english[30:35], english[46]}


def test_rejects_are_counted_with_places(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", english)
    with path.open("ab") as file:
        file.write(b'{"text": "caf\xe9"}\n{"text": null}\nbroken\n')
    dataset = build_dataset(make_recipe(path, max_rejected=0.05), tokenizer_folder, tmp_path / "d", workers=1)
    entry = entry_of(dataset)
    assert entry["rejected"] == {"broken JSON": 1, "broken UTF-8": 1, "null text": 1}
    lines = [(place["file"], place["line"]) for place in entry["reject_places"]]
    assert lines == [(str(path), len(english) + n) for n in (1, 2, 3)]

    with pytest.raises(DataError, match=r"3 of \d+ records are bad") as caught:
        build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=1)
    assert f"{path}:{len(english) + 1}: broken UTF-8" in str(caught.value)
    assert "broken JSON: 1" in str(caught.value)
    assert caught.value.exit_code == 3


def test_large_files_are_read_in_ranges_with_true_line_numbers(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    texts = [f"{n} " + "điều khoản thi hành " * 40 for n in range(4000)]
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    data = path.read_bytes().split(b"\n")
    data[3500] = b"broken"
    path.write_bytes(b"\n".join(data))
    assert path.stat().st_size > 3 << 20
    dataset = build_dataset(make_recipe(path), tokenizer_folder, tmp_path / "d", workers=2)
    entry = entry_of(dataset)
    assert len(entry["shards"]) >= 3
    assert [(p["line"], p["reason"]) for p in entry["reject_places"]] == [(3501, "broken JSON")]
    assert entry["accepted"] + entry["held_out"] == 3999
    train, held = texts_of(dataset, tokenizer_folder)
    assert sorted(train + held) == sorted(texts[:3500] + texts[3501:])


def test_a_large_file_without_a_text_is_passed_over_as_a_small_one_is(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    write_jsonl(tmp_path / "in" / "good.jsonl", english)
    (tmp_path / "in" / "meta.jsonl").write_text('{"id": 1, "kind": "a record"}\n' * 60_000)
    with pytest.raises(DataError, match="no text column"):
        build_dataset(make_recipe(tmp_path / "in"), tokenizer_folder, tmp_path / "d", workers=1)
    recipe = make_recipe(tmp_path / "in", on_bad_file="skip")
    entry = entry_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1))
    assert [Path(bad["file"]).name for bad in entry["bad_files"]] == ["meta.jsonl"]
    assert entry["documents_in"] == len(english)


def test_large_tables_are_read_in_row_groups_with_true_row_numbers(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    texts: list[str | None] = [f"{n} " + os.urandom(400).hex() for n in range(6000)]
    texts[4500] = None
    path = tmp_path / "a.parquet"
    columns = pyarrow.table({"n": range(6000), "text": texts})
    pyarrow.parquet.write_table(columns, path, row_group_size=250, write_page_checksum=True)
    recipe = make_recipe(path)
    one, three = (build_dataset(recipe, tokenizer_folder, tmp_path / f"d{n}", workers=n) for n in (1, 3))
    assert bytes_of(one.path) == bytes_of(three.path)
    entry = entry_of(one)
    assert len(entry["shards"]) >= 4
    assert [(p["line"], p["reason"]) for p in entry["reject_places"]] == [(4501, "null text")]
    train, held = texts_of(one, tokenizer_folder)
    assert sorted(train + held) == sorted(text for text in texts if text)
    broken = bytearray(path.read_bytes())
    middle = len(broken) // 2
    broken[middle : middle + 4000] = bytes(4000)
    path.write_bytes(broken)
    with pytest.raises(DataError, match="damaged"):
        build_dataset(recipe, tokenizer_folder, tmp_path / "d1", workers=1)
    write_jsonl(tmp_path / "b.jsonl", [f"{n} another text" for n in range(200)])
    source = {"name": "law", "path": [str(path), str(tmp_path / "b.jsonl")], "on_bad_file": "skip"}
    skipping = Recipe.model_validate({"name": "t", "base_model": "none", "data": {"sources": [source]}})
    entry = entry_of(build_dataset(skipping, tokenizer_folder, tmp_path / "d1", workers=1))
    assert (entry["documents_in"], len(entry["bad_files"])) == (200, 1)  # whole or not at all


def test_the_number_of_workers_does_not_change_a_byte(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    for n in range(6):
        write_jsonl(tmp_path / "c" / f"{n}.jsonl", [f"{i} {t * 4}" for i, t in enumerate(english[n * 10 :] * 4)])
    recipe = make_recipe(tmp_path / "c")
    one, four = (build_dataset(recipe, tokenizer_folder, tmp_path / f"d{n}", workers=n) for n in (1, 4))
    assert len(entry_of(one)["shards"]) > 1
    assert one.hash == four.hash
    assert bytes_of(one.path) == bytes_of(four.path)


def test_the_same_again_is_found_and_a_change_is_not(
    tmp_path: Path, law: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    def build(recipe: Recipe) -> tuple[str, set[str]]:
        seen: set[str] = set()
        dataset = build_dataset(
            recipe, tokenizer_folder, tmp_path / "d", workers=1, progress=lambda what, *_: seen.add(what)
        )
        return dataset.hash, seen

    first, _ = build(make_recipe(law))
    again, seen = build(make_recipe(law))
    assert again == first
    assert seen == {"hash"}  # neither scanned nor tokenized
    other, seen = build(make_recipe(law, document_tokens={"eos": "<|endoftext|>"}))
    assert other != first
    assert seen == {"hash", "tokenize"}  # what was scanned is known
    with law.open("ab") as file:
        file.write(b'{"text": "one more"}\n')
    assert build(make_recipe(law))[0] != first


def test_document_tokens_reach_the_shards(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(law, document_tokens=DocumentTokens(bos="<|im_start|>", eos="<|endoftext|>").model_dump())
    documents = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1).train("law")
    for index in range(len(documents)):
        ids = documents.tokens(index).tolist()
        assert (ids[0], ids[-1]) == (1, 0)
        assert not {0, 1, 2} & set(ids[1:-1])


# ---- bad input ----


def test_missing_and_empty_sources(tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.jsonl").touch()
    write_jsonl(tmp_path / "other" / "a.rst", ["not read"])
    for path in ("absent.jsonl", "absent/*.jsonl", "empty", "nothing.jsonl", "other"):
        with pytest.raises(DataError, match=path.partition("*")[0]) as caught:
            build_dataset(make_recipe(tmp_path / path), tokenizer_folder, tmp_path / "d", workers=1)
        assert "correct the path" in str(caught.value.remedy)
    (tmp_path / "other" / "a.jsonl.gz").write_bytes(gzip.compress(b"cut")[:-4])
    for settings, remedy in (({"format": "csv"}, "leave out format: csv"), ({"on_bad_file": "skip"}, "get them again")):
        source = {"name": "law", "path": str(tmp_path / "other"), **settings}
        recipe = Recipe.model_validate({"name": "t", "base_model": "none", "data": {"sources": [source]}})
        with pytest.raises(DataError, match="no document in it") as caught:
            build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
        assert remedy in str(caught.value.remedy)


def test_a_damaged_file_stops_or_is_skipped_whole_and_reported(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    folder = tmp_path / "corpus"
    write_jsonl(folder / "good.jsonl", english)
    lost = gzip.compress(
        b"".join(json.dumps({"text": f"lost {os.urandom(30).hex()}"}).encode() + b"\n" for _ in range(500))
    )
    (folder / "cut.jsonl.gz").write_bytes(lost[: len(lost) // 2])
    os.mkfifo(folder / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe\.jsonl"):
        build_dataset(make_recipe(folder), tokenizer_folder, tmp_path / "d", workers=1)
    (folder / "pipe.jsonl").unlink()
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz.*damaged"):
        build_dataset(make_recipe(folder), tokenizer_folder, tmp_path / "d", workers=1)
    os.mkfifo(folder / "pipe.jsonl")
    for _ in range(2):  # scanned, and found scanned
        recipe = make_recipe(folder, on_bad_file="skip")
        dataset = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
        entry = entry_of(dataset)
        assert sorted(Path(bad["file"]).name for bad in entry["bad_files"]) == ["cut.jsonl.gz", "pipe.jsonl"]
        train, held = texts_of(dataset, tokenizer_folder)
        assert sorted(train + held) == english


def test_other_files_in_a_folder_are_ignored_and_reported(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    folder = tmp_path / "corpus"
    write_jsonl(folder / "deep" / "a.jsonl", english)
    for name in ("README.md", "manifest.json", "deep/picture.png", ".hidden.jsonl"):
        (folder / name).write_bytes(b"\x00 not documents")
    entry = entry_of(build_dataset(make_recipe(folder), tokenizer_folder, tmp_path / "d", workers=1))
    assert (entry["files"], entry["documents_in"]) == (1, len(english))
    assert entry["ignored_files"]["count"] == 3
    assert [Path(path).name for path in entry["ignored_files"]["first"]] == [
        "README.md",
        "picture.png",
        "manifest.json",
    ]


def test_a_loop_of_links_is_an_error_and_a_file_named_twice_is_read_once(
    tmp_path: Path, law: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(law)
    source = recipe.data.sources[0].model_copy(
        update={"path": [str(law), str(law.parent), str(law.parent / "*.jsonl")]}
    )
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": [source]})})
    assert entry_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1))["documents_in"] == len(english)
    (law.parent / "loop").symlink_to(law.parent)
    with pytest.raises(DataError, match="loop"):
        build_dataset(make_recipe(law.parent), tokenizer_folder, tmp_path / "d", workers=1)


def test_a_named_format_decides_what_is_taken_from_a_folder(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    folder = tmp_path / "c"
    write_jsonl(folder / "a.jsonl", english)
    (folder / "b.txt").write_text("one text")
    write_jsonl(folder / "c.dat", ["from a pattern"])

    def read(path: Path, format: str) -> dict[str, Any]:
        recipe = make_recipe(path)
        source = recipe.data.sources[0].model_copy(update={"format": format})
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": [source]})})
        return entry_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1))

    assert read(folder, "auto")["documents_in"] == len(english) + 1
    assert read(folder, "txt")["documents_in"] == 1
    assert read(folder / "*.dat", "jsonl")["documents_in"] == 1


def test_file_names_of_all_kinds(
    tmp_path: Path, english: list[str], tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    names = ["a b\n.jsonl", "luật 🙂.jsonl", "[x]*.jsonl", "q'\"\\.jsonl"]
    for index, name in enumerate(names):
        write_jsonl(tmp_path / "c" / name, english[index * 10 : index * 10 + 10])
    Path(os.fsdecode(os.fsencode(tmp_path / "c") + b"/\xff.jsonl")).write_bytes(b'{"text": "bytes"}\nbroken\n')
    dataset = build_dataset(make_recipe(tmp_path / "c", max_rejected=0.1), tokenizer_folder, tmp_path / "d", workers=1)
    entry = entry_of(dataset)
    assert (entry["files"], entry["documents_in"], entry["rejected"]) == (5, 42, {"broken JSON": 1})
    literal = build_dataset(make_recipe(tmp_path / "c" / "[x]*.jsonl"), tokenizer_folder, tmp_path / "d", workers=1)
    assert entry_of(literal)["documents_in"] == 10


def test_a_file_that_changes_between_the_passes_is_an_error(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    def meddle(what: str, *_: object) -> None:
        if what == "scan":
            data = law.read_bytes()
            law.write_bytes(data.replace(b"the", b"THE"))

    with pytest.raises(DataError, match=r"(?s)law\.jsonl.*changed"):
        build_dataset(make_recipe(law), tokenizer_folder, tmp_path / "d", workers=1, progress=meddle)
    assert not list((tmp_path / "d").glob("*/manifest.json"))


# ---- killed, stopped, damaged, two at once ----


BUILD = """
import sys
from pathlib import Path
from rewarm.data.prepare import build_dataset
from rewarm.recipe.recipe import Recipe

recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_text())
dataset = build_dataset(
    recipe, Path(sys.argv[2]), Path(sys.argv[3]), workers=2, progress=lambda *p: print(*p, flush=True)
)
print("built", dataset.hash, flush=True)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, english: list[str]) -> Path:
    """Some megabytes in several slices."""
    dice, folder = random.Random(3), tmp_path_factory.mktemp("corpus")
    for n in range(4):
        texts = [" ".join(dice.sample(text.split(" "), len(text.split(" ")))) for text in english for _ in range(12)]
        write_jsonl(folder / f"{n}.jsonl", texts)
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, corpus: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> Dataset:
    """The dataset of the corpus as a build that nothing happens to makes it."""
    return build_dataset(make_recipe(corpus), tokenizer_folder, tmp_path_factory.mktemp("clean"), workers=1)


def start(recipe: Recipe, folder: Path, datasets: Path, scratch: Path) -> subprocess.Popen[bytes]:
    path = scratch / "recipe.json"
    path.write_text(recipe.model_dump_json(exclude_unset=True))
    command = [sys.executable, "-c", BUILD, str(path), str(folder), str(datasets)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)  # they begin to listen once they have imported
    assert not alive


@pytest.mark.parametrize("moment", ["hash", "scan 0", "scan 1", "tokenize 0", "tokenize 1", "tokenize 2", "later"])
def test_killed_at_any_moment_the_next_build_ends_with_the_same_bytes(
    tmp_path: Path,
    corpus: Path,
    undisturbed: Dataset,
    tokenizer_folder: Path,
    make_recipe: MakeRecipe,
    moment: str,
) -> None:
    recipe = make_recipe(corpus)
    process = start(recipe, tokenizer_folder, tmp_path / "killed", tmp_path)
    assert process.stdout
    children: list[psutil.Process] = []
    stage, _, wanted = moment.partition(" ")
    for line in process.stdout:
        what, done, total, *_ = [*line.decode().split(" "), "0", "0"]
        children = psutil.Process(process.pid).children()
        if what == "built" or (what == stage and float(done) >= float(total) * int(wanted or 0) / 3):
            break
        if stage == "later" and what == "tokenize" and done == total:
            break  # the manifest is being written
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_gone(children)  # nobody told the workers; they notice
    process.stdout.close()

    resumed = build_dataset(recipe, tokenizer_folder, tmp_path / "killed", workers=2)
    assert resumed.hash == undisturbed.hash
    assert bytes_of(resumed.path) == bytes_of(undisturbed.path)
    assert bytes_of(tmp_path / "killed" / ".held_out") == bytes_of(undisturbed.path.parent / ".held_out")
    assert not [p for p in (tmp_path / "killed").rglob("*") if ".tmp-" in p.name and ".scans" not in p.parts]


def test_a_killed_worker_is_said_and_the_next_build_goes_on(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    def kill(what: str, *_: object) -> None:
        if what == "tokenize":
            for child in worker_processes():
                child.kill()

    recipe = make_recipe(corpus)
    with pytest.raises(ResourceError, match="signal 9"):
        build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2, progress=kill)
    assert build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2).sources["law"].documents


def test_a_stop_ends_the_build_soon_and_what_was_done_is_kept(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    stage, asked = "", 0.0

    def note(what: str, *_: object) -> None:
        nonlocal stage
        stage = what

    def stop() -> bool:
        nonlocal asked
        asked = asked or (time.monotonic() if stage == "tokenize" else 0.0)
        return bool(asked)

    recipe = make_recipe(corpus)
    with pytest.raises(Stopped):
        build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2, progress=note, stop=stop)
    assert time.monotonic() - asked < 1.5
    assert not worker_processes()
    seen: set[str] = set()
    build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=2, progress=lambda what, *_: seen.add(what))
    assert "scan" not in seen


def test_two_builds_at_once_share_one_dataset(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(corpus)
    processes = [start(recipe, tokenizer_folder, tmp_path / "d", tmp_path) for _ in range(2)]
    outputs = [process.communicate()[0].decode().split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    verify(tmp_path / "d" / outputs[0][-1])
    tokenizing = [output for output in outputs if "tokenize" in output]
    assert len(tokenizing) == 1  # the other one waited and found it done


def test_a_dataset_with_a_cut_shard_or_a_flipped_byte_is_made_again(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe(law)
    dataset = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    before = bytes_of(dataset.path)
    shard = dataset.path / "law" / "tokens-00000.bin"
    os.truncate(shard, shard.stat().st_size - 2)
    with pytest.raises(DataError, match=r"tokens-00000\.bin"):
        Dataset.open(dataset.path, verify=False)
    assert bytes_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1).path) == before
    assert "tokens-00000.bin" in caplog.text

    data = bytearray(shard.read_bytes())
    data[7] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="SHA-256"):
        Dataset.open(dataset.path)
    assert bytes_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1).path) == before
    assert "SHA-256" in caplog.text


def test_a_shard_that_was_damaged_before_it_was_used_is_made_again(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(law)
    first = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    before = bytes_of(first.path)
    shutil.rmtree(first.path)
    (shard,) = (tmp_path / "d" / ".shards").glob("*/train/tokens.bin")
    shard.write_bytes(bytes([shard.read_bytes()[0] ^ 1]) + shard.read_bytes()[1:])
    assert bytes_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1).path) == before


def test_a_manifest_that_counts_other_tokens_than_there_are_is_refused(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    dataset = build_dataset(make_recipe(law), tokenizer_folder, tmp_path / "d", workers=1)
    path = dataset.path / "manifest.json"
    path.write_text(path.read_text().replace('"tokens": ', '"tokens": 9', 1))
    with pytest.raises(DataError, match="counts of law"):
        Dataset.open(dataset.path)


def test_a_damaged_list_of_what_was_held_out_stops_the_build(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    build_dataset(make_recipe(law), tokenizer_folder, tmp_path / "d", workers=1)
    (ledger,) = (tmp_path / "d" / ".held_out").glob("*.json")
    ledger.write_bytes(ledger.read_bytes()[:-40])
    with pytest.raises(DataError, match="held out of a text is damaged") as error:
        build_dataset(make_recipe(law), tokenizer_folder, tmp_path / "d", workers=1)
    assert error.value.where == str(ledger)


def test_a_damaged_scan_is_made_again(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(law)
    first = build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1)
    (scan,) = (tmp_path / "d" / ".scans").iterdir()
    good = scan.read_bytes()
    for damaged in (good[:-1], good[: len(good) // 2], b"", good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]):
        scan.write_bytes(damaged)
        assert build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1).hash == first.hash
        assert scan.read_bytes() == good


def test_workers_start_light() -> None:
    heavy = "{'pydantic', 'cryptography', 'pyarrow', 'zstandard'} & set(sys.modules)"
    code = f"import sys, rewarm.data.workers; sys.exit(str({heavy}) if {heavy} else 0)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""


def test_the_parent_needs_no_threads_or_processes_afterwards(
    tmp_path: Path, law: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    before = threading.active_count()
    build_dataset(make_recipe(law), tokenizer_folder, tmp_path / "d", workers=2)
    assert threading.active_count() == before
    assert not worker_processes()


# ---- estimates ----


def test_the_estimate_is_near_the_truth(
    tmp_path: Path, corpus: Path, tokenizer_folder: Path, make_recipe: MakeRecipe
) -> None:
    write_jsonl(tmp_path / "old.jsonl", ["small"] * 3)
    recipe = make_recipe(corpus, replay=tmp_path / "old.jsonl")
    found = sample_texts(recipe, tokenizer_folder, max_bytes=200_000)
    assert (found["replay"].documents, found["replay"].dropped) == (1, {"duplicate": 2})
    exact = [json.loads(line)["text"] for path in sorted(corpus.iterdir()) for line in path.open()]
    tokens = sum(len(ids) for ids in DocumentTokenizer.load(tokenizer_folder).encode_batch(exact))
    assert found["law"].files == 4
    assert np.isclose(found["law"].documents, len(exact), rtol=0.1)
    assert np.isclose(found["law"].bytes, sum(len(t.encode()) for t in exact), rtol=0.1)
    assert np.isclose(found["law"].tokens, tokens, rtol=0.1)
    with pytest.raises(DataError, match="absent"):
        sample_texts(make_recipe(tmp_path / "absent.jsonl"), tokenizer_folder)


def test_the_estimate_is_of_what_the_steps_leave(
    tmp_path: Path, tokenizer_folder: Path, make_recipe: MakeRecipe, english: list[str]
) -> None:
    texts = [text for text in english if len(text.split()) >= 100][:40]
    for number, text in enumerate(texts):  # one document a file, of which a third is too short, and a third alike
        folder = tmp_path / "pages"
        folder.mkdir(exist_ok=True)
        words = text.split(" ")
        (folder / f"{number}a.html").write_text(f"<html><body><p>{text}</p></body></html>")
        (folder / f"{number}b.html").write_text(f"<html><body><p>{text} Updated.</p></body></html>")
        (folder / f"{number}c.html").write_text(f"<html><body><p>{' '.join(words[:5])}</p></body></html>")
    steps = [{"kind": "extract"}, {"kind": "quality", "min_words": 20}]
    recipe = make_recipe(folder, steps=steps, near_duplicates={})
    found = sample_texts(recipe, tokenizer_folder)["law"]
    built = entry_of(build_dataset(recipe, tokenizer_folder, tmp_path / "d", workers=1))
    assert (found.files, found.documents) == (120, built["accepted"] + built["held_out"]) == (120, 40)
    assert found.dropped == built["filtered"] == {"quality: too few words": 40, "near duplicate": 40}
    assert np.isclose(found.tokens, built["tokens"] + built["held_out_tokens"], rtol=0.05)
    part = sample_texts(recipe, tokenizer_folder, max_bytes=30_000)["law"]
    assert abs(part.documents + sum(part.dropped.values()) - 120) <= 2  # each of the three is rounded
    with pytest.raises(DataError, match="drop every document of a sample"):
        sample_texts(make_recipe(folder, steps=[{"kind": "quality", "min_words": 9999}]), tokenizer_folder)
