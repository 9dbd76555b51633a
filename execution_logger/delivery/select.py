"""Which delivery the settings ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from execution_logger.delivery.interface import Delivery
from execution_logger.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def select_delivery(settings: Settings, celery_app: "Celery | None" = None) -> Callable[[], Delivery]:
    """Return what makes the delivery; called in the shipper's thread, which pays for the imports."""

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
