"""Which delivery the settings ask for: one, or a second one while the first one is away."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from execution_logger.broker.connection import QueueView, sentinel_options, settings_of_host, tls_options
from execution_logger.delivery.interface import Confirming, Delivery, Receipt
from execution_logger.entry.batch import Batch
from execution_logger.errors import DeliveryError, SettingsError
from execution_logger.settings import Settings, variable_of
from execution_logger.urls import broker_problem, database_problem, results_problem

if TYPE_CHECKING:
    from celery import Celery

    from execution_logger.broker.confirmations import Outcome


class FallbackDelivery:
    """Hands each batch to `first`, and to `second` when that fails.

    A batch that was sent to both, because the first attempt was only in doubt, is still one row
    per entry: rows are told by their ids.
    """

    def __init__(self, first: Delivery, second: Delivery) -> None:
        self._first = first
        self._second = second

    def deliver(self, batch: Batch) -> Receipt | None:
        """Deliver to either; raises DeliveryError when both fail."""
        try:
            return self._first.deliver(batch)
        except DeliveryError as first_error:
            try:
                return self._second.deliver(batch)
            except DeliveryError as second_error:
                raise DeliveryError(f"{first_error}; and directly: {second_error}") from second_error

    @property
    def is_confirming(self) -> bool:
        """Whether either is."""
        return bool(self._confirming)

    def collect(self, batch_ids: Sequence[str]) -> "Mapping[str, Outcome]":
        """Ask the first one, and the second one, which may hold some: also while the first one is away."""
        outcomes: dict[str, Outcome] = {}
        failure = None
        for delivery in self._confirming:
            try:
                found = delivery.collect([each for each in batch_ids if each not in outcomes])
            except DeliveryError as error:
                failure = error
            else:
                outcomes |= found
        if failure is not None and not outcomes:
            raise failure
        return outcomes

    def look_at_queue(self) -> QueueView:
        """Look at the queue of the first one that has one."""
        if not self._confirming:
            raise DeliveryError("what the broker has taken cannot be followed")
        return self._confirming[0].look_at_queue()

    def close(self) -> None:
        """Close both."""
        try:
            self._first.close()
        finally:
            self._second.close()

    @property
    def _confirming(self) -> list[Confirming]:
        both = (self._first, self._second)
        return [each for each in both if isinstance(each, Confirming) and each.is_confirming]


_DATABASE_PACKAGES = ("aiosqlite", "alembic", "asyncpg", "sqlalchemy")
"""What `execution_logger.store` imports."""


def select_delivery(settings: Settings, celery_app: "Celery | None" = None) -> Callable[[], Delivery]:
    """Return what makes the delivery; called in the shipper's thread, which pays for the imports.

    Raises:
        SettingsError: it could never deliver anything.
    """
    if settings.celery_enabled:
        _check_broker(settings, celery_app)
    if not settings.celery_enabled or settings.fallback == "direct":
        _check_database(settings)

    def by_celery() -> Delivery:
        from execution_logger.delivery.celery import CeleryDelivery  # noqa: PLC0415 - Celery

        return CeleryDelivery(settings, celery_app)

    def to_database() -> Delivery:
        from execution_logger.delivery.database import DatabaseDelivery  # noqa: PLC0415 - SQLAlchemy

        return DatabaseDelivery(settings)

    def by_celery_or_to_database() -> Delivery:
        return FallbackDelivery(by_celery(), to_database())

    if not settings.celery_enabled:
        return to_database
    return by_celery_or_to_database if settings.fallback == "direct" else by_celery


def missing_packages() -> list[str]:
    """What is not installed of the packages that reach the database."""
    return [name for name in _DATABASE_PACKAGES if find_spec(name) is None]


def _check_broker(settings: Settings, celery_app: "Celery | None") -> None:
    """See what can be seen of the broker's URL without Celery."""
    where = variable_of("broker_url") if celery_app is None else "the broker of the Celery application"
    settings = settings if celery_app is None else settings_of_host(celery_app, settings)
    if problem := broker_problem(settings.broker_url, in_code=True):
        raise SettingsError(f"{where}: {problem}")
    tls_options(settings.broker_url)
    if celery_app is None:
        sentinel_options(settings, settings.broker_url)
    if settings.result_backend and settings.confirmation != "off":
        if problem := results_problem(settings.result_backend):
            raise SettingsError(f"{variable_of('result_backend')}: {problem}")
        tls_options(settings.result_backend)


def _check_database(settings: Settings) -> None:
    who = "FALLBACK=direct" if settings.celery_enabled else "CELERY_ENABLED=false"
    if problem := database_problem(settings.require_database(who)):
        raise SettingsError(f"{variable_of('database_url')}: {problem}")
    if missing := missing_packages():
        raise SettingsError(
            f'{who} needs {", ".join(missing)}: pip install "celery-execution-logger[worker]"'
        )
