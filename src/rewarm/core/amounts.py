"""Counts, sizes and durations as people read them: the same in the terminal, the report and the card."""

from __future__ import annotations

NONE = "\N{EN DASH}"


def amount(value: float | None, unit: str = "") -> str:
    """A count or a size with three digits, in powers of 1000: 999, 30.2 k, 1.5 MB; a dash where there is none."""
    if value is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:  # what rounds up to the size
            return f"{value / size:.3g} {letter}{unit}"
    shown = f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"
    return f"{shown} {unit}".rstrip()


def size(value: float | None) -> str:
    """Bytes."""
    return amount(value, "B")


def duration(seconds: float | None) -> str:
    """Seconds: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min, 3 d 4 h; a dash where they are not known."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
