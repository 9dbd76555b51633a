"""How to connect to the broker: the options that keep every outage short, per role.

The figures were measured with Celery 5.7, kombu 5.7 and redis-py 8.1; docs/CELERY_SETUP.md has them.
"""

import re
from typing import Any
from urllib.parse import urlsplit

from execution_logger.settings import Settings

TASK_NAME = "execution_logger.write_batch"

_REDIS_SCHEMES = ("redis", "rediss", "sentinel")


def producer_options(settings: Settings) -> dict[str, Any]:
    """Transport options for sending: any outage, hang or black hole costs one second per attempt.

    Without `max_retries` kombu reconnects in a loop of its own for 6 s; without `socket_timeout`
    a stopped Redis blocks for minutes. `socket_timeout` is the connect timeout too.
    """
    if _is_embedded(settings):
        return _embedded_options(settings)
    if _scheme(settings) in _REDIS_SCHEMES:
        return {"socket_timeout": 1, "max_retries": 0}
    return {"max_retries": 0}


def worker_options(settings: Settings) -> dict[str, Any]:
    """Transport options for consuming: batches of a killed worker come back within a minute or so.

    Celery's defaults bring them back after an hour, and never notice a peer that went silent.
    """
    if _is_embedded(settings):
        return _embedded_options(settings)
    if _scheme(settings) in _REDIS_SCHEMES:
        return {
            "visibility_timeout": settings.visibility_timeout_seconds,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "health_check_interval": 5,
        }
    return {}


def broker_url_of(app: Any) -> str:
    """Where a Celery application sends to: the first of its brokers, Celery's default without any."""
    url = app.conf.broker_write_url or "amqp://"
    return str(url if isinstance(url, str) else url[0])


def public_url(url: str) -> str:
    """The URL, or several with `;` between them, without users and passwords, for people to read."""
    return ";".join(re.sub("//.*@", "//", each).partition("?")[0] for each in url.split(";"))


def _scheme(settings: Settings) -> str:
    return urlsplit(settings.broker_url).scheme.partition("+")[0]


def _is_embedded(settings: Settings) -> bool:
    return _scheme(settings) == "embedded"


def _embedded_options(settings: Settings) -> dict[str, Any]:
    # Imported here: it needs kombu, and only this kind of broker needs it.
    from execution_logger.embedded_broker import transport_options  # noqa: PLC0415

    return transport_options(settings.broker_url)
