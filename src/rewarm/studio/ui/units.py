"""Numbers with their units, as people read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes: ``20.9 GB``."""
    return _scaled(count, "B")


def amount(count: float) -> str:
    """Tokens, documents, steps: ``2.1 M``; exact below ten thousand."""
    return f"{count:,.0f}" if abs(count) < 10_000 else _scaled(count, "").rstrip()


def _scaled(count: float, unit: str) -> str:
    for letter in ("", "k", "M", "G"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if not letter else f"{count:.3g} {letter}{unit}"
        count /= 1000
    return f"{count:,.3g} T{unit}"


def duration(seconds: float | None) -> str:
    """``2 h 05 min``; a dash where it is not known."""
    if seconds is None or seconds != seconds or seconds < 0:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
