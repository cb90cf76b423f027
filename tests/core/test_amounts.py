from __future__ import annotations

import pytest

from rewarm.core.amounts import amount, duration, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (999, "999"),
        (30_208, "30.2 k"),
        (2_466_000, "2.47 M"),
        (1e12, "1 T"),
        (999_999, "1 M"),
        (None, "\N{EN DASH}"),
    ],
)
def test_amounts_read_well(value: float | None, shown: str) -> None:
    assert amount(value) == shown


def test_sizes_read_well() -> None:
    assert [size(n) for n in (0, 512, 1e9)] == ["0 B", "512 B", "1 GB"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.42, "0.4 s"),
        (42, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_read_well(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
