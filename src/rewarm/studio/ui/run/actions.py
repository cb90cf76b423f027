"""What may be done with a run: stop it with a reason, let it go on, begin it anew, delete it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from nicegui import ui

from rewarm.core.run import STAGES
from rewarm.core.states import LIVE
from rewarm.studio.context import Role
from rewarm.studio.service import runs
from rewarm.studio.service.runs import RunDetail
from rewarm.studio.ui.parts.dialog import asking, confirm
from rewarm.studio.ui.parts.text import command
from rewarm.studio.ui.visit import Visit


def actions(visit: Visit, run: RunDetail) -> None:
    """The buttons for this state; each asks first, and shows the command that does the same."""
    if not visit.may(Role.editor):
        return

    def button(word: str, ask: Callable[[Visit, RunDetail], None], color: str = "") -> None:
        ui.button(visit.say(f"run.{word}"), on_click=lambda: ask(visit, run)).props(f"outline no-caps dense {color}")

    if run.state in LIVE:
        button("stop", _stop)
    else:
        button("resume", resume)
        button("delete", _delete, "color=negative")
    button("clone", _clone)


def _stop(visit: Visit, run: RunDetail) -> None:
    async def stop() -> None:
        await visit.call(runs.stop, run.id, why.value or "")
        ui.notify(visit.say("run.done_stop"))

    with asking(visit, visit.say("run.stop"), visit.say("run.stop"), stop):
        ui.label(visit.say("run.stop_text"))
        why = ui.input(visit.say("run.stop_why")).classes("w-full")
        command(visit, f"rewarm stop {run.id}")


def resume(visit: Visit, run: RunDetail, checkpoint: str = "") -> None:
    """From where it ended, or from a stage or checkpoint that is chosen."""

    async def go_on() -> None:
        await visit.call(runs.resume, run.id, start.value or None)
        ui.navigate.to(f"/runs/{quote(run.id)}")

    places = {"": visit.say("run.where_ended")} if run.state != "succeeded" else {}
    places |= {stage: visit.say("run.from_stage", stage=stage) for stage in STAGES}
    if checkpoint:
        places[checkpoint] = checkpoint
    with asking(visit, visit.say("run.resume"), visit.say("run.resume"), go_on):
        start = ui.select(places, value=checkpoint or next(iter(places)), label=visit.say("run.from")).classes("w-full")
        ui.label(visit.say("run.from_text")).classes("rw-help")
        command(visit, "").bind_text_from(
            start, "value", lambda place: f"rewarm resume {run.id}" + (f" --from {place}" if place else "")
        )


def _clone(visit: Visit, run: RunDetail) -> None:
    async def clone() -> None:
        made = await visit.call(runs.clone, run.id)
        ui.navigate.to(f"/runs/{quote(made.id)}")

    with asking(visit, visit.say("run.clone"), visit.say("run.clone"), clone):
        ui.label(visit.say("run.clone_text"))
        command(visit, f"rewarm run runs/{run.id}/recipe.yaml")


def _delete(visit: Visit, run: RunDetail) -> None:
    confirm(visit, visit.say("run.delete_text"), run.id, runs.delete, f"rewarm runs rm {run.id}", "/runs")
