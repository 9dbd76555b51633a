"""What PyInstaller cannot see: modules imported by name or at their first use, SQL files, migrations."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = [
    *collect_submodules("execution_logger", on_error="ignore"),
    # Celery and kombu find these by their names in settings and URLs.
    *collect_submodules("celery.app", on_error="ignore"),
    *collect_submodules("celery.loaders", on_error="ignore"),
    "celery.backends.base", "celery.backends.filesystem", "celery.backends.redis", "celery.fixups.django",
    "kombu.transport.filesystem", "kombu.transport.pyamqp", "kombu.transport.redis",
    # As SQLAlchemy does its dialects, and these their drivers.
    "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite", "aiosqlite", "asyncpg",
]  # fmt: skip
datas = [
    *collect_data_files("execution_logger"),
    # Alembic reads these as files.
    *collect_data_files("execution_logger", subdir="store/migrations", include_py_files=True),
]
