"""Open base models to begin with. Any other hub id, folder or version can be typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nicegui import ui

from rewarm.studio.ui.parts.dialog import asking
from rewarm.studio.ui.parts.table import Column, refill, table
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


def catalog(visit: Visit, chosen: str | None, choose: Callable[[str], None]) -> None:
    """The list with a search; a click on a line takes it, and so does the button for who has no mouse."""

    def found() -> list[Base]:
        wanted = (search.value or "").lower()
        return [base for base in BASE_MODELS if wanted in " ".join(base).lower()]

    async def take() -> None:
        if pick.value:
            choose(pick.value)

    with asking(visit, visit.say("wizard.catalog"), visit.say("wizard.take"), take):
        search = ui.input(visit.say("runs.search")).props("dense outlined clearable").classes("w-full")
        columns = [
            Column("id", visit.say("wizard.base"), lambda base: base.id),
            Column("family", visit.say("catalog.family"), lambda base: base.family),
            Column("size", visit.say("catalog.size"), lambda base: base.size, number=True),
            Column("licence", visit.say("catalog.licence"), lambda base: base.licence),
        ]
        shown = table(columns, BASE_MODELS, title=visit.say("wizard.catalog"), on_click=lambda key: picked(key))
        shown.classes("rw-scroll rw-clickable")
        ids = [base.id for base in BASE_MODELS]
        pick = ui.select(ids, value=chosen if chosen in ids else None, label=visit.say("wizard.base")).classes("w-full")

    def picked(key: int) -> None:
        pick.value = found()[key].id

    search.on_value_change(lambda: refill(shown, columns, found()))
