"""Open base models to begin with. Any other hub id, folder or version can be typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nicegui import ui

from rewarm.studio.ui.parts.table import Column, table
from rewarm.studio.ui.visit import Visit

GATED = "gated"


class Base(NamedTuple):
    id: str
    family: str
    size: str
    """Parameters."""
    licence: str
    """As its page on the hub names it; of a gated one, terms must be accepted there first."""

    @property
    def line(self) -> str:
        return f"{self.id} · {self.size} · {self.family}"


_APACHE, _LLAMA, _GEMMA = "Apache-2.0", f"Llama, {GATED}", f"Gemma, {GATED}"
BASE_MODELS = [
    Base("HuggingFaceTB/SmolLM2-135M", "SmolLM2", "135M", _APACHE),
    Base("HuggingFaceTB/SmolLM2-360M", "SmolLM2", "360M", _APACHE),
    Base("HuggingFaceTB/SmolLM2-1.7B", "SmolLM2", "1.7B", _APACHE),
    Base("Qwen/Qwen3-0.6B-Base", "Qwen 3", "0.6B", _APACHE),
    Base("Qwen/Qwen3-1.7B-Base", "Qwen 3", "1.7B", _APACHE),
    Base("Qwen/Qwen3-4B-Base", "Qwen 3", "4B", _APACHE),
    Base("Qwen/Qwen3-8B-Base", "Qwen 3", "8B", _APACHE),
    Base("Qwen/Qwen3-14B-Base", "Qwen 3", "14B", _APACHE),
    Base("Qwen/Qwen2.5-0.5B", "Qwen 2.5", "0.5B", _APACHE),
    Base("Qwen/Qwen2.5-1.5B", "Qwen 2.5", "1.5B", _APACHE),
    Base("Qwen/Qwen2.5-7B", "Qwen 2.5", "7B", _APACHE),
    Base("Qwen/Qwen2.5-32B", "Qwen 2.5", "32B", _APACHE),
    Base("meta-llama/Llama-3.2-1B", "Llama 3.2", "1.2B", _LLAMA),
    Base("meta-llama/Llama-3.2-3B", "Llama 3.2", "3.2B", _LLAMA),
    Base("meta-llama/Llama-3.1-8B", "Llama 3.1", "8B", _LLAMA),
    Base("google/gemma-3-1b-pt", "Gemma 3", "1B", _GEMMA),
    Base("google/gemma-3-4b-pt", "Gemma 3", "4B", _GEMMA),
    Base("mistralai/Mistral-7B-v0.3", "Mistral", "7B", _APACHE),
    Base("allenai/OLMo-2-0425-1B", "OLMo 2", "1B", _APACHE),
    Base("allenai/OLMo-2-1124-7B", "OLMo 2", "7B", _APACHE),
]


def catalog(visit: Visit, choose: Callable[[str], Any]) -> None:
    """The list, folded; a click on a line takes it. Who has no mouse finds the same in the field above."""
    columns = [
        Column("id", visit.say("wizard.base"), lambda base: base.id),
        Column("family", visit.say("catalog.family"), lambda base: base.family),
        Column("size", visit.say("catalog.size"), lambda base: base.size, number=True),
        Column("licence", visit.say("catalog.licence"), lambda base: base.licence),
    ]
    with ui.expansion(visit.say("wizard.catalog"), icon="list").classes("w-full"):
        shown = table(columns, BASE_MODELS, title=visit.say("wizard.catalog"), on_click=lambda base: choose(base.id))
        shown.classes("rw-clickable")
