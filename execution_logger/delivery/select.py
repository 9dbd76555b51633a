"""Which delivery the settings ask for."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from execution_logger.broker.connection import sentinel_options, settings_of_host, tls_options
from execution_logger.delivery.interface import Delivery
from execution_logger.errors import SettingsError
from execution_logger.settings import Settings, unsupported, variable_of

if TYPE_CHECKING:
    from celery import Celery

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
        from execution_logger.delivery.celery import CeleryDelivery  # noqa: PLC0415

        return CeleryDelivery(settings, celery_app)

    def to_database() -> Delivery:
        from execution_logger.delivery.database import DatabaseDelivery  # noqa: PLC0415

        return DatabaseDelivery(settings)

    def by_celery_or_to_database() -> Delivery:
        from execution_logger.delivery.fallback import FallbackDelivery  # noqa: PLC0415

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
    if problem := unsupported("broker_url", settings.broker_url, in_code=True):
        raise SettingsError(f"{where}: {problem}")
    tls_options(settings.broker_url)
    if celery_app is None:
        sentinel_options(settings, settings.broker_url)


def _check_database(settings: Settings) -> None:
    who = "FALLBACK=direct" if settings.celery_enabled else "CELERY_ENABLED=false"
    if problem := unsupported("database_url", settings.require_database(who)):
        raise SettingsError(f"{variable_of('database_url')}: {problem}")
    if missing := missing_packages():
        raise SettingsError(
            f'{who} needs {", ".join(missing)}: pip install "celery-execution-logger[worker]"'
        )
