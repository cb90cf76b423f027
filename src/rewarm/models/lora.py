"""LoRA adapters through peft: the base frozen, low-rank matrices trained beside its linear layers."""

from __future__ import annotations
