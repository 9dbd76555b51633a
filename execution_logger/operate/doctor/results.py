"""The result backend: whether a worker's confirmation of a batch can be left there and read."""

from collections.abc import Iterator
from uuid import uuid4

from execution_logger.broker.confirmations import STORED, result_backend_url
from execution_logger.errors import ResultsUnavailableError
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.operate.doctor.redis import cluster, examine_redis, is_forbidden, unreachable
from execution_logger.settings import Settings, is_set
from execution_logger.text import public_url
from execution_logger.worker.confirmations import WorkerConfirmations

_TIMEOUT_SECONDS = 1.0


def examine_results(subject: Subject) -> Iterator[Finding]:
    """Leave a confirmation of a batch that never was, read it and delete it."""
    settings = subject.settings
    url = result_backend_url(settings)
    if url is None:
        yield _nowhere(settings)
        return
    if settings.result_backend and public_url(settings.result_backend) != public_url(url):
        # Usual, and all right as long as the workers pass it over, too: that is the workers' check.
        passed_over = settings.result_backend.partition(":")[0]
        yield ok(
            "results.url",
            f"CELERY_RESULT_BACKEND={passed_over}:... carries no confirmations, the broker does",
        )
    variable = "CELERY_RESULT_BACKEND" if settings.result_backend else "CELERY_BROKER_URL"
    results = WorkerConfirmations(settings, timeout_seconds=_TIMEOUT_SECONDS)
    try:
        if clustered := _clustered(results, url):
            yield from clustered
            return
        yield from _try(results, url)
        if _is_redis(url) and public_url(url) != public_url(settings.broker_url):
            yield from examine_redis("results", results.backend.client, url, subject)
    except ResultsUnavailableError as problem:
        names = ("result_backend",) if settings.result_backend else ("broker_url",)
        known = any(is_set(name, subject.environ) for name in names)
        yield unreachable("results", str(problem), variable, is_set=known)
    finally:
        results.close()


def _is_redis(url: str) -> bool:
    return url.startswith("redis")


def _clustered(results: WorkerConfirmations, url: str) -> list[Finding]:
    with results.errors():
        return list(cluster("results", results.backend.client)) if _is_redis(url) else []


def _nowhere(settings: Settings) -> Finding:
    if settings.confirmation == "off":
        return ok(
            "results.place", "EXECUTION_LOGGER_CONFIRMATION=off: hosts forget what the broker has taken"
        )
    return warning(
        "results.place",
        "there is no result backend for confirmations: entries count as safe once the broker has them",
        "set EXECUTION_LOGGER_RESULT_BACKEND=redis://... to the same Redis for hosts and workers",
    )


def _try(results: WorkerConfirmations, url: str) -> Iterator[Finding]:
    name = f"doctor-{uuid4()}"
    try:
        results.store(name, STORED, {"stored": 0})
    except ResultsUnavailableError as problem:
        if not is_forbidden(str(problem)):
            raise
        results.forget(list(results.outcomes([name])))
        yield ok("results.place", f"{public_url(url)} lets this user read confirmations; workers write them")
        return
    try:
        found = results.outcomes([name])
    finally:
        results.forget([name])
    if name in found:
        yield ok("results.place", f"{public_url(url)} keeps the worker's confirmations")
    else:
        yield error(
            "results.place",
            f"{public_url(url)} took a confirmation and does not give it back",
            "name the master in the URL: a replica lags behind, or something in between caches",
        )
