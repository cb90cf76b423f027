"""The steps from one version of the tables to the next, as Alembic reads them; numbered, the newest last.

After a change of ``tables.py``: ``python -m rewarm.studio.store.migrations WHAT_CHANGED`` writes the next step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from rewarm.core.errors import UserError

VERSIONS = Path(__file__).parent / "versions"


def head() -> str:
    """The number of the newest step."""
    return max((path.name[:4] for path in VERSIONS.glob("[0-9]*.py")), default="")


def upgrade(connection: Connection, where: str) -> None:
    """Go the steps that this database has not gone yet, in the transaction that ``connection`` is in.

    Raises:
        UserError: if it has gone a step that is not known here.
    """
    now = None
    if inspect(connection).has_table("alembic_version"):
        now = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if now == head():
        return
    if now and now > head():
        raise UserError(
            f"a newer Rewarm made this database (its tables are {now}, those known here {head()})",
            where=where,
            remedy="install that version; or restore a backup of before: rewarm restore FILE",
        )
    from alembic import command  # only where there is something to do: a start should be quick

    command.upgrade(configuration(connection), "head")


def configuration(connection: Connection) -> Any:
    """Alembic's, without a file."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(VERSIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config
