"""The Alembic environment of the library's own tables."""
