"""Measures the workspace, copies the database every day, warns before the disk is full, cleans up where wished."""

from __future__ import annotations

import logging
import time

from rewarm.studio.context import OWNER, Studio
from rewarm.studio.service import backup, housekeeping
from rewarm.studio.service.housekeeping import Limits
from rewarm.studio.service.notifications import tell
from rewarm.studio.service.settings import read_setting
from rewarm.studio.store.accounts import administrators

log = logging.getLogger("rewarm.studio")


def measure(studio: Studio) -> None:
    """Count bytes, and tell the administrators, once a day, what there is to warn of."""
    now = time.time()
    housekeeping.measure(studio, now, rest=4.0)
    if warnings := housekeeping.overview(studio, OWNER).warnings:
        log.warning("%s", "; ".join(warnings))
        with studio.database.read() as session:
            addresses = [row.email for row in administrators(session) if row.email]
        tell(studio, "disk", int(now // 86_400), "\n".join(warnings), addresses, now)


def copy_database(studio: Studio) -> None:
    """Keep the daily copy."""
    url = None if studio.database.is_sqlite else studio.database.engine.url.render_as_string(hide_password=False)
    backup.keep_copy(studio.workspace, url, time.time())


class CleanDaily:
    """Clean up by the rules once a day, where the administrator wants it to go by itself."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, studio: Studio) -> None:
        if read_setting(studio, Limits).automatic and time.time() - self._last > 86_400:
            self._last = time.time()
            housekeeping.clean(studio, OWNER)
