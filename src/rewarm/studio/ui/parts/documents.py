"""How documents begin, with what else stands in their records."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from rewarm.studio.ui.parts.text import told
from rewarm.studio.ui.visit import Visit


def documents(visit: Visit, found: list[dict[str, Any]]) -> None:
    for number, document in enumerate(found, 1):
        fields = dict(document)
        text, rejected = fields.pop("text", None), fields.pop("rejected", None)
        with ui.element("div").classes("rw-segment"):
            about = told({key: value for key, value in fields.items() if value != ""})
            ui.label(" · ".join(filter(None, [visit.say("hub.document", number=number), about]))).classes("rw-help")
            if rejected:
                ui.label(visit.say("hub.rejected", because=rejected)).classes("rw-state-failed")
            if isinstance(text, str):
                ui.label(text).classes("rw-code rw-short")
