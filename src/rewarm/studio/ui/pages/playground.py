"""The base and the result write on from the same prompt, side by side."""

from __future__ import annotations

from typing import Any

from nicegui import ui
from nicegui.element import Element

from rewarm.studio.context import Role
from rewarm.studio.service import completions, models
from rewarm.studio.ui import units
from rewarm.studio.ui.parts.text import command, empty, heading, section
from rewarm.studio.ui.shell import page
from rewarm.studio.ui.visit import Visit


class Writing(Element, component="../parts/writing.js"):
    """A text that a model writes, streamed straight from the API: ``write`` begins it."""

    def __init__(self, visit: Visit, title: str) -> None:
        super().__init__()
        words = {word: visit.say(f"playground.{word}") for word in ("waiting", "failed")}
        self._props.update(heading=title, words=words)

    def write(self, request: dict[str, Any]) -> None:
        self.run_method("write", request)


@page("/playground", "playground.title", wide=True)
async def playground(visit: Visit, model: str = "") -> None:
    heading(visit.say("playground.title"), visit.say("playground.why"))
    known = [version.model for version in await visit.read(models.list_versions, limit=500)]
    if not known:
        empty(
            visit.say("playground.none"), visit.say("models.none_next"), visit.say("overview.create"), "/pipelines/new"
        )
        return
    choice = ui.select(known, value=model if model in known else known[0], label=visit.say("playground.model"))
    choice.props("outlined dense").classes("rw-search")
    prompt = ui.textarea(visit.say("playground.prompt")).props("outlined autogrow").classes("w-full")
    with ui.element("div").classes("rw-row"):
        length = ui.number(visit.say("playground.length"), value=64, min=1, max=8192, precision=0)
        temperature = ui.number(visit.say("playground.temperature"), value=0.7, min=0, max=2, step=0.1)
        top_p = ui.number(visit.say("playground.top_p"), value=0.95, min=0.01, max=1, step=0.05)
        seed = ui.number(visit.say("playground.seed"), value=1, precision=0)
        stop = ui.input(visit.say("playground.stop"))
        for field in (length, temperature, top_p, seed, stop):
            field.props("outlined dense").style("width: 120px")

    def write() -> None:
        request = {
            "prompt": prompt.value or "", "max_tokens": int(length.value or 64), "temperature": temperature.value or 0,
            "top_p": top_p.value or 1, "seed": int(seed.value or 0), "stop": stop.value or None, "stream": True,
        }  # fmt: skip
        base.write({**request, "model": f"{choice.value}:base"})
        result.write({**request, "model": choice.value})

    button = ui.button(visit.say("playground.write"), on_click=write).props("no-caps")
    button.bind_enabled_from(prompt, "value", bool)
    with ui.element("div").classes("rw-grid"):
        base = Writing(visit, visit.say("playground.base"))
        result = Writing(visit, visit.say("playground.result"))
    command(visit, f'rewarm models generate {choice.value} "TEXT" --temperature 0.7 --seed 1')
    if visit.may(Role.editor):
        await _engines(visit)


async def _engines(visit: Visit) -> None:
    section(visit.say("playground.engines"))
    place = ui.element("div")
    drawn: list[str] | None = None

    async def look() -> None:
        nonlocal drawn
        found = await visit.read(completions.list_engines)
        now = [f"{engine.id} {engine.state}" for engine in found]
        if now == drawn:
            return
        drawn = now
        place.clear()
        with place:
            for engine in found:
                with ui.element("div").classes("rw-row"):
                    ui.label(engine.model)
                    about = [engine.state, engine.device or "", units.size(engine.bytes) if engine.bytes else ""]
                    ui.label(" · ".join(filter(None, about))).classes("rw-quiet")
                    ui.button(visit.say("playground.end"), on_click=lambda id=engine.id: end(id)).props(
                        "flat dense no-caps"
                    )
            if not found:
                ui.label("–").classes("rw-quiet")

    async def end(id: str) -> None:
        await visit.call(completions.end_engine, id)
        await look()

    await look()
    ui.timer(3.0, look)
