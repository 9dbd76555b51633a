"""What an import costs, in fresh processes."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from figures import Table, number, spread

_PROGRAM = """
import sys, time
began = time.perf_counter()
{code}
milliseconds, modules = (time.perf_counter() - began) * 1000, len(sys.modules)
import psutil
print(milliseconds, modules, psutil.Process().memory_info().rss / 1e6)
sys.stdout.flush()
{end}
"""

NOTHING = "nothing: a bare interpreter"
OURS = "execution_logger"
FIRST_CALL = f"{OURS}, and the first call"
FIRST_BATCH = f"{OURS}, and the first batch sent (in the background)"
_CALL = "import execution_logger\nexecution_logger.execution_logger.sync.info('task-1', 'agent', 'started')\n"
_FLUSH = "report = execution_logger.execution_logger.sync.flush(30)\nassert report.complete, report\n"
_END = "execution_logger.execution_logger.sync.shutdown(5)"

SUBJECTS: dict[str, tuple[str, str]] = {
    NOTHING: ("", ""),
    OURS: ("import execution_logger", ""),
    FIRST_CALL: (_CALL, _END),
    FIRST_BATCH: (_CALL + _FLUSH, _END),
    "logging": ("import logging", ""),
    "structlog": ("import structlog", ""),
    "loguru": ("import loguru", ""),
    "OpenTelemetry's logs SDK": (
        "from opentelemetry.sdk._logs import LoggerProvider, export",
        "",
    ),
    "Sentry SDK": ("import sentry_sdk", ""),
    "Celery": ("from celery import Celery", ""),
    "SQLAlchemy": ("import sqlalchemy", ""),
}


@dataclass(frozen=True)
class Import:
    """What one import took and left."""

    milliseconds: float
    modules: float
    megabytes: float


def compare(rounds: int, environment: Mapping[str, str]) -> tuple[Table, dict[str, float]]:
    """All of them in turn; the table, and the median milliseconds of each."""
    found: dict[str, list[Import]] = {name: [] for name in SUBJECTS}
    for _ in range(rounds + 1):
        for name, (code, end) in SUBJECTS.items():
            found[name].append(_run(_PROGRAM.format(code=code, end=end), environment))
    for imports in found.values():
        imports.pop(0)  # whose files came from the disk, or were compiled
    bare = found[NOTHING]
    rows = [(name, *_cells(imports, bare)) for name, imports in found.items() if name != NOTHING]
    table = Table(
        "Import",
        ("import of", "ms (quartiles)", "modules", "MB"),
        rows,
        f"Medians of {rounds} fresh processes, beyond a bare interpreter's. A first call includes the start "
        "of the thread and of the journal; what sends the batches is loaded by that thread.",
    )
    return table, {name: median(each.milliseconds for each in imports) for name, imports in found.items()}


def _cells(imports: list[Import], bare: list[Import]) -> tuple[str, str, str]:
    modules, modules_before = (median(each.modules for each in some) for some in (imports, bare))
    size, size_before = (median(each.megabytes for each in some) for some in (imports, bare))
    return (
        spread([each.milliseconds for each in imports]),
        number(modules - modules_before),
        number(size - size_before),
    )


def _run(program: str, environment: Mapping[str, str]) -> Import:
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return Import(*map(float, run.stdout.split()))
