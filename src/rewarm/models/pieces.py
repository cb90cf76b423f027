"""Tensors that several safetensors files share: each file holds some rows of some of them.

What a rank writes is what it holds; what another number of ranks reads are the rows that each of them needs.
A file's metadata says for each tensor which row of the whole its first one is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rewarm.core.errors import DataError

_FIRST_ROWS = "first_rows"


def write_pieces(path: Path, tensors: Mapping[str, Tensor], first_rows: Mapping[str, int]) -> None:
    """Write ``tensors`` to a file whose mode follows the umask; those that do not begin at row 0 say where."""
    begins = {name: row for name, row in first_rows.items() if row and name in tensors}
    save_file(dict(tensors), path, {_FIRST_ROWS: orjson.dumps(begins).decode()})
    path.chmod(path.parent.stat().st_mode & 0o666)  # safetensors keeps a file to its owner


class Pieces:
    """The tensors of some files by their names."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: dict[str, list[tuple[int, int, Any]]] = {}  # rows, half-open, and the file that holds them
        for path in files:
            file: Any = safe_open(path, framework="pt")
            begins = orjson.loads((file.metadata() or {}).get(_FIRST_ROWS, "{}"))
            for name in file.keys():  # noqa: SIM118 - no mapping
                shape, first = file.get_slice(name).get_shape(), begins.get(name, 0)
                self._places.setdefault(name, []).append((first, first + (shape[0] if shape else 1), file))

    @property
    def names(self) -> set[str]:
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole tensor."""
        shape = self._places[name][0][2].get_slice(name).get_shape()
        return (max(last for _, last, _ in self._places[name]), *shape[1:]) if shape else ()

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Rows ``first`` to ``last`` (half-open), or all of them, of a tensor.

        Raises:
            DataError: some are in no file.
        """
        shape = self.shape(name)
        if not shape:
            whole: Tensor = self._places[name][0][2].get_tensor(name)
            return whole
        stop, parts = shape[0] if last is None else last, []
        at = first
        for begin, end, file in sorted(self._places[name], key=lambda place: place[:2]):
            if begin <= at < min(end, stop):
                parts.append(file.get_slice(name)[at - begin : min(end, stop) - begin])
                at = min(end, stop)
        if at < stop:
            raise DataError(f"rows {at} to {stop} of {name!r} are in no file of the checkpoint")
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else torch.empty(0, *shape[1:])
