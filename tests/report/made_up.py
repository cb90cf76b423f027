"""Made-up scores whose spread is that of real documents: uneven lengths, heavy tails."""

from __future__ import annotations

from typing import Any

import numpy as np


def documents(n: int, sigma: float, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Scores of n documents of lognormal length, of which the long ones gain more."""
    sizes = np.maximum(np.exp(rng.normal(6.5, sigma, n)).round(), 20)
    rate = np.maximum(0.9 + 3 / np.sqrt(sizes) + 0.15 * rng.standard_t(4, n), 0.1)
    fall = (
        0.2 + 0.03 * (np.log(sizes) - 6.5) + 0.06 * rng.standard_normal(n) + 0.8 * rng.standard_normal(n) / sizes**0.5
    )
    base = [
        {"id": str(i), "nll": float(r * s), "bytes": int(s)} for i, (r, s) in enumerate(zip(rate, sizes, strict=True))
    ]
    return base, [{**item, "nll": item["nll"] * float(1 - f)} for item, f in zip(base, fall, strict=True)]
