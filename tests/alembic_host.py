"""An application with models and migrations of its own, by Alembic."""

import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

ENVIRONMENT = """
from alembic import context
from sqlalchemy import NullPool, create_engine
{import_line}
from {models} import metadata

with create_engine("{url}", poolclass=NullPool).connect() as connection:
    context.configure(connection=connection, target_metadata={metadata}{options})
    with context.begin_transaction():
        context.run_migrations()
"""
MODELS = """
from sqlalchemy import CHAR, Column, DateTime, Integer, JSON, MetaData, Table, Text, Uuid

metadata = MetaData()
Table("users", metadata, Column("id", Integer, primary_key=True), Column("name", Text))
"""


class AlembicHost:
    """Such an application, in one database with our tables.

    Args:
        folder: for its files.
        monkeypatch: lets Python find them.
        url: of the database, for a driver without asyncio.
        options: further ones of `context.configure`, each after a comma.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, options: str) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self.url = url
        self.options = options
        self.folder = folder / "migrations"
        self.config = Config()
        self.config.set_main_option("script_location", str(self.folder))
        self.models = f"models_{folder.name.replace('-', '_')}"
        (self.folder / "versions").mkdir(parents=True)
        (self.folder / "script.py.mako").write_text(
            "from alembic import op\nimport sqlalchemy as sa\n${imports if imports else ''}\n"
            "revision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n"
            "def upgrade():\n    ${upgrades if upgrades else 'pass'}\n"
            "def downgrade():\n    ${downgrades if downgrades else 'pass'}\n"
        )
        monkeypatch.syspath_prepend(str(folder))
        self.write()

    def write(self, *models: str, is_told: bool = True, metadata: str = "metadata") -> None:
        """Its models and its env.py."""
        sys.modules.pop(self.models, None)
        (self.folder.parent / f"{self.models}.py").write_text(MODELS + "".join(models))
        environment = ENVIRONMENT.format(
            models=self.models,
            url=self.url,
            metadata=metadata,
            import_line="from execution_logger.store import include_name" if is_told else "",
            options=self.options + (", include_name=include_name" if is_told else ""),
        )
        (self.folder / "env.py").write_text(environment)

    def revision(self) -> str:
        """What `alembic revision --autogenerate` writes."""
        script = command.revision(self.config, autogenerate=True)
        assert script is not None
        assert not isinstance(script, list)
        return Path(script.path).read_text().split("def downgrade")[0]
