"""Settings: what is set and has no effect, and what is chosen at a price."""

from collections.abc import Iterator, Mapping

from execution_logger.errors import SettingsError
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.settings import describe, unknown_variables


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
