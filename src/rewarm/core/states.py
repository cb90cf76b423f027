"""The states of a run and the moves between them. This table is the only place that knows them."""

from __future__ import annotations

LIVE = frozenset({"queued", "starting", "running", "stopping", "paused"})
"""States that are only true while the run's process lives, or the run waits in the queue."""
RESUMED = frozenset({"preempted", "lost"})
"""States that the scheduler may lead out of by itself, unless somebody stops the run there."""

MOVES: dict[str, frozenset[str]] = {
    "queued": frozenset({"queued", "starting", "running", "stopping", "stopped", "failed", "lost"}),
    "starting": frozenset({"running", "stopping", "failed", "lost"}),
    "running": frozenset({"queued", "running", "stopping", "paused", "preempted", "failed", "lost", "succeeded"}),
    "paused": frozenset({"running", "stopping", "failed", "lost"}),
    "stopping": frozenset({"stopped", "preempted", "failed", "lost", "succeeded"}),
    "preempted": frozenset({"starting", "stopped"}),
    "stopped": frozenset({"starting"}),
    "failed": frozenset({"starting"}),
    "lost": frozenset({"starting", "stopped", "failed"}),
    "succeeded": frozenset({"starting"}),  # resume --from STAGE
}


def check_move(old: str | None, new: str) -> None:
    """Raise ``ValueError`` unless a run in state ``old`` (None: a new one) may become ``new``."""
    legal = frozenset({"queued", "starting", "stopped"}) if old is None else MOVES[old]
    if new not in legal:
        raise ValueError(f"a run cannot go from {old} to {new}")
