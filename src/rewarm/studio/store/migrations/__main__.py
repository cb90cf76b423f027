"""``python -m rewarm.studio.store.migrations WHAT_CHANGED``: write the step from the last one to ``tables.py``."""

import sys

from alembic import command
from sqlalchemy import create_engine

from rewarm.studio.store.migrations import configuration, head

number = f"{int(head() or 0) + 1:04d}"
with create_engine("sqlite://").begin() as connection:
    config = configuration(connection)
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    command.upgrade(config, "head")
    command.revision(config, " ".join(sys.argv[1:]) or "tables", autogenerate=True, rev_id=number)
