"""The cache holds what it was given or nothing, and stays within its limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rewarm.data.remote.cache import BlockCache

URI = "s3://bucket/ộ\n\udce9.jsonl"


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_block_of_another_version_place_or_length_is_another(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "cache", 1 << 20)
    assert cache.get(URI, "v1", 0, 5) is None
    cache.put(URI, "v1", 0, b"block")
    assert cache.get(URI, "v1", 0, 5) == b"block"
    assert BlockCache(tmp_path / "cache", 0).get(URI, "v1", 0, 5) == b"block"
    assert [cache.get(*key) for key in ((URI, "v2", 0, 5), (URI, "v1", 1, 5), ("s3://b", "v1", 0, 5))] == [None] * 3
    assert cache.get(URI, "v1", 0, 4) is None


def test_every_flip_and_cut_is_noticed(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1 << 20)
    for position in range(21):
        for change in (lambda b, p: b[:p], lambda b, p: b[:p] + bytes([b[p] ^ 1]) + b[p + 1 :], lambda b, p: b + b"x"):
            cache.put(URI, "v", 0, b"block")
            path = next(path for path in tmp_path.glob("??/*"))
            path.write_bytes(change(path.read_bytes(), position))
            assert cache.get(URI, "v", 0, 5) is None
            assert not path.exists()


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    limit = 16 << 20
    cache, block = BlockCache(tmp_path, limit), os.urandom(1 << 19)
    for number in range(100):
        cache.put(URI, "v", number, block)
        cache.get(URI, "v", 0, len(block))  # used all the time
        assert held(tmp_path) < limit
    assert held(tmp_path) > limit // 2
    kept = [number for number in range(100) if cache.get(URI, "v", number, len(block))]
    assert kept[0] == 0
    assert kept[1:] == list(range(kept[1], 100))


def test_processes_share_one_limit(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom rewarm.data.remote.cache import BlockCache\n"
        "cache = BlockCache(Path(sys.argv[1]), 16 << 20)\n"
        "for n in range(20):\n"
        "    cache.put(sys.argv[2], 'v', n, bytes(1 << 20))\n"
        "    assert cache.get(sys.argv[2], 'v', n, 1 << 20) in (None, bytes(1 << 20))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), f"s3://b/{n}"]) for n in range(3)]
    assert [process.wait() for process in running] == [0] * 3
    assert 4 << 20 < held(tmp_path) < 18 << 20
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = BlockCache(tmp_path / "cache", 1 << 20)
    cache.put(URI, "v", 0, b"block")
    assert cache.get(URI, "v", 0, 5) is None
