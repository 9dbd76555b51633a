"""A host that PyInstaller has frozen: it runs without any Python, and misses nothing."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HOST = """
import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from execution_logger import ExecutionLogger, Settings
from execution_logger.store import ExecutionLogRepository, create_engine, upgrade


async def run():
    settings = Settings.from_environment()
    engine = create_engine(settings, pool_size=1)
    await upgrade(engine, settings)
    logger = ExecutionLogger(settings)
    await logger.info("run-1", "workflow", "from a frozen host")
    await logger.shutdown()
    async with AsyncSession(engine) as session:
        for entry in await ExecutionLogRepository(session, settings).list_by_trace("run-1"):
            print(entry.message)
    await engine.dispose()


asyncio.run(run())
"""
# What the tests' environment has besides would take minutes.
LEFT_OUT = (
    "django", "execution_logger.integrations", "execution_logger.web", "eventlet", "gevent", "numpy",
    "opentelemetry", "prometheus_client", "psycopg", "pydantic", "pytest", "setuptools", "tkinter",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform == "linux" and not sysconfig.get_config_var("Py_ENABLE_SHARED"),
    reason="PyInstaller needs a Python with a shared library",
)
def test_a_frozen_host_makes_its_tables_logs_and_reads_back(tmp_path: Path) -> None:
    """The hook brings what is imported by its name, the statements and the migrations."""
    (tmp_path / "host.py").write_text(HOST)
    environment = {**os.environ, "PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")}
    options = [f"--exclude-module={name}" for name in LEFT_OUT]
    freeze = [sys.executable, "-m", "PyInstaller", "--log-level=ERROR", *options, "host.py"]
    subprocess.run(freeze, cwd=tmp_path, env=environment, check=True)
    done = subprocess.run(
        [tmp_path / "dist" / "host" / "host"],
        env={
            **environment,
            "CELERY_ENABLED": "false",
            "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}",
            "EXECUTION_LOGGER_JOURNAL_DIRECTORY": str(tmp_path / "journal"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "from a frozen host\n"), done.stderr
