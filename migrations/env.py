"""Alembic's entry: runs on the connection that `app.schema` hands over, in the transaction that it has begun there.

`app.schema` calls it for one revision after the other, and so gives each a transaction of its own.
"""

from alembic import context

from app.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
context.run_migrations()
