"""The doctor: what is wrong with a deployment, found from outside, with what to do about it.

All checks run at once: what waits for one server holds up nothing else, and nothing takes for ever.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from execution_logger.broker.confirmations import result_backend_url
from execution_logger.delivery.select import missing_packages
from execution_logger.errors import ExecutionLoggerError, SettingsError
from execution_logger.operate.asking import Asking, Facts, Part
from execution_logger.operate.doctor.broker import examine_broker, examine_results
from execution_logger.operate.doctor.finding import Finding, Level, Subject, error, ok, warning, worst
from execution_logger.operate.doctor.journal import examine_journal
from execution_logger.operate.doctor.probe import Probe, send_probe
from execution_logger.operate.doctor.workers import examine_workers
from execution_logger.settings import Settings, describe, unknown_variables, why_no_database
from execution_logger.text import public_url

__all__ = [
    "AREAS",
    "Finding",
    "Level",
    "Probe",
    "Subject",
    "examine",
    "misspelt_variables",
    "send_probe",
    "unusable",
    "worst",
]


def examine_settings(subject: Subject) -> Iterator[Finding]:
    """Look at the variables and at what they add up to."""
    yield from misspelt_variables(subject.environ)
    settings = subject.settings
    if settings.celery_enabled and settings.broker_url.startswith("embedded"):
        yield warning(
            "settings.broker",
            "the broker is a folder: a worker that is killed loses the batches it has in hand",
            "for production set CELERY_BROKER_URL to a Redis",
        )
    number = sum(any(subject.environ.get(name) for name in names.split(" / ")) for names, _, _ in describe())
    yield ok("settings.values", f"{number} of {len(describe())} settings are set, all can be used")


def misspelt_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like settings and have no effect."""
    for name, meant in unknown_variables(environ).items():
        advice = f"did you mean {meant}?" if meant else "docs/SETTINGS.md lists all settings"
        yield warning("settings.unknown", f"{name} is set, and there is no such setting", advice)


def unusable(problem: SettingsError) -> Finding:
    """Settings with which nothing starts."""
    return error("settings.values", str(problem), "correct it; every command and every host reads it")


LIMIT_SECONDS = 8.0
"""The longest that an examination takes."""

AREAS = ("settings", "journal", "broker", "results", "workers", "database")

Check = Callable[[Subject], Iterator[Finding]]

Line = Sequence[tuple[str, Check]]
"""Checks that come one after the other: when a server does not answer, the next would only say the same."""


def examine(
    subject: Subject,
    skip: Collection[str] = (),
    *,
    lines: Sequence[Line] | None = None,
    limit_seconds: float = LIMIT_SECONDS,
) -> list[Finding]:
    """Run all checks, in about two seconds when all servers answer, and in `limit_seconds` at most.

    Args:
        subject: what to examine.
        skip: areas that are not wanted.
        lines: the checks with their areas, by default all; lines run side by side.
        limit_seconds: what has not answered by then is a finding.

    Returns:
        What was found, in the order of the areas.
    """
    lines = _lines_for(subject.settings) if lines is None else lines
    reads = {str(number): partial(_run, line, subject, skip) for number, line in enumerate(lines)}
    parts = Asking(reads, limit_seconds).ask().values()
    found = [finding for part in parts for finding in (*part.facts["findings"], *_hanging(part))]
    return sorted(found, key=lambda finding: AREAS.index(finding.area))


def _run(line: Line, subject: Subject, skip: Collection[str], facts: Facts) -> None:
    facts["findings"] = ()
    for area, check in line:
        facts["area"] = area
        for finding in () if area in skip else _guarded(area, check, subject):
            facts["findings"] += (finding,)
        if any(finding.is_final for finding in facts["findings"]):
            return


def _hanging(part: Part) -> Iterator[Finding]:
    if part.error is not None:
        advice = "something hangs: a name server, a firewall that drops packets, a stopped server or disk"
        yield error(f"{part.facts['area']}.connection", part.error, advice)


def _guarded(area: str, check: Check, subject: Subject) -> Iterator[Finding]:
    try:
        yield from check(subject)
    except SettingsError as problem:
        yield error(f"{area}.settings", str(problem), "correct it: no host and no worker starts with it")
    except (ExecutionLoggerError, OSError) as problem:
        yield error(f"{area}.connection", str(problem), "see what is said of the others; then ask again")
    except Exception as problem:  # noqa: BLE001 - one check that fails must not hide the others
        what = f"could not be examined: {type(problem).__name__}: {problem}"
        yield error(f"{area}.check", what, "this is a defect of the doctor: please report it")


def _lines_for(settings: Settings) -> list[Line]:
    lines: list[Line] = [
        (("settings", examine_settings), ("journal", examine_journal)),
        (("database", _examine_database),),
    ]
    if not settings.celery_enabled:
        return lines
    broker, results, workers = (
        ("broker", examine_broker),
        ("results", examine_results),
        ("workers", examine_workers),
    )
    url = result_backend_url(settings)
    if url is None or public_url(url) == public_url(settings.broker_url):
        return [*lines, (broker, results, workers)]
    return [*lines, (broker, workers), (results,)]


def _examine_database(subject: Subject) -> Iterator[Finding]:
    """Look at it where there is one, and the packages for it: a host that has Celery needs neither."""
    if not subject.settings.database_url:
        reason = why_no_database("the worker", subject.environ)
    elif missing := missing_packages():
        reason = f'{", ".join(missing)} is not installed: pip install "celery-execution-logger[worker]"'
    else:
        from execution_logger.operate.doctor.database import examine_database  # noqa: PLC0415

        yield from examine_database(subject)
        return
    if subject.settings.celery_enabled:
        yield ok("database.connection", f"not examined: {reason}; workers need it, hosts need not")
    else:
        yield error("database.settings", reason, "a host with CELERY_ENABLED=false does not start without")
