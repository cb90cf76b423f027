"""Tells what runs came to: fills the outbox and sends what is due in it."""

from __future__ import annotations

import time

from rewarm.studio.context import Studio
from rewarm.studio.service import notifications


def tick(studio: Studio) -> None:
    notifications.collect(studio, time.time())
    notifications.send_due(studio, time.time())
