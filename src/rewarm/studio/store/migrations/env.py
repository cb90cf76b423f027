"""What Alembic runs: the steps, on the connection that it was given, in that connection's transaction."""

from alembic import context

from rewarm.studio.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
