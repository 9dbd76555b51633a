"""How to connect to the broker: the options that keep every outage short, and the pauses in one that is long.

The figures were measured with Celery 5.7, kombu 5.7 and redis-py 8.1; docs/CELERY_SETUP.md has them.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from execution_logger.errors import SettingsError
from execution_logger.settings import Settings
from execution_logger.text import public_url

TASK_NAME = "execution_logger.write_batch"

FIRST_PAUSE_SECONDS = 0.5
REDIS_SCHEMES = ("redis", "rediss", "sentinel")
_SENTINEL = re.compile(r"<redis\.client\.Redis\(.*?\bhost=(?P<host>[^,]*),port=(?P<port>\d+).*?\)>\)>\)>")
_CERTIFICATE_CHECKS = ("required", "optional", "none")


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """What a `kombu.Connection` for sending takes.

    Raises:
        SettingsError: the name of Sentinel's master is missing, or a TLS option cannot be used.
    """
    return {
        "hostname": url_without_tls(settings.broker_url),
        "ssl": tls_options(settings.broker_url) or False,
        "transport_options": {
            **producer_options(settings),
            **sentinel_options(settings, settings.broker_url),
        },
    }


def producer_options(settings: Settings) -> dict[str, Any]:
    """Transport options for sending: any outage, hang or black hole costs one second per attempt.

    Without `max_retries` kombu reconnects in a loop of its own for 6 s; without `socket_timeout`
    a stopped Redis blocks for minutes. `socket_timeout` is the connect timeout too.
    """
    if _is_embedded(settings):
        return _embedded_options(settings)
    if scheme_of(settings.broker_url) in REDIS_SCHEMES:
        return {"socket_timeout": 1, "max_retries": 0, **keys_in_hand(settings)}
    return {"max_retries": 0}


def worker_options(settings: Settings) -> dict[str, Any]:
    """Transport options for consuming: batches of a killed worker come back within a minute or so.

    Celery's defaults bring them back after an hour, and never notice a peer that went silent.
    """
    if _is_embedded(settings):
        return _embedded_options(settings)
    if scheme_of(settings.broker_url) in REDIS_SCHEMES:
        return {
            "visibility_timeout": settings.visibility_timeout_seconds,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 10,
            "health_check_interval": 5,
            **keys_in_hand(settings),
            **sentinel_options(settings, settings.broker_url),
        }
    return {}


def keys_in_hand(settings: Settings) -> dict[str, str]:
    """Transport options that name the keys for what workers have in hand, apart from other workers'.

    Celery keeps that of all workers of a Redis database in one place, and puts it back after the
    shortest visibility timeout of any: tasks of a host that take longer than ours would run again and again.
    """
    names = ("unacked", "unacked_index", "unacked_mutex")
    return {f"{name}_key": f"{settings.queue}.{name}" for name in names}


def sentinel_options(settings: Settings, url: str, timeout_seconds: float = 1.0) -> dict[str, Any]:
    """Transport options, of a broker or of a result backend, that lead by way of Sentinel; else none.

    Args:
        settings: what Sentinel calls the master, and the Sentinels' password.
        url: where to; TLS options in it hold for the Sentinels as well.
        timeout_seconds: longest wait for each Sentinel. Without it, one that hangs would be waited for.

    Raises:
        SettingsError: the name of the master is missing.
    """
    if not is_sentinel(url):
        return {}
    if not settings.sentinel_master_name:
        raise SettingsError(
            "EXECUTION_LOGGER_SENTINEL_MASTER_NAME is not set: sentinel:// needs it, e.g. mymaster"
        )
    # redis-py itself would ask a Sentinel that is away four times before it asks the next one. (None, and no
    # object that says the same: workers tell their configuration as JSON.)
    timeouts = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    sentinels: dict[str, Any] = {**timeouts, "retry": None}
    if settings.sentinel_password:
        sentinels["password"] = settings.sentinel_password
    if tls := tls_options(url):
        sentinels |= {"ssl": True, **tls}
    return {"master_name": settings.sentinel_master_name, "sentinel_kwargs": sentinels}


def is_sentinel(url: str) -> bool:
    """Whether the URL names Sentinels, which name the Redis."""
    return scheme_of(url) == "sentinel"


def tls_options(url: str) -> dict[str, Any] | None:
    """The TLS options of a URL as redis-py and Celery's `broker_use_ssl` take them; None without TLS.

    Certificates are checked unless the URL says otherwise: kombu takes any for a plain `rediss://`.

    Raises:
        SettingsError: an option cannot be used.
    """
    given = [option for each in url.split(";") for option in parse_qsl(_query(each))]
    options: dict[str, Any] = {name: value for name, value in given if name.startswith("ssl_")}
    if scheme_of(url) not in REDIS_SCHEMES or not (options or scheme_of(url) == "rediss"):
        return None
    checks = str(options.get("ssl_cert_reqs", "required")).lower().removeprefix("cert_")
    if checks not in _CERTIFICATE_CHECKS:
        raise SettingsError(
            f"the URL {public_url(url)} says ssl_cert_reqs={options['ssl_cert_reqs']}: "
            f"must be one of {', '.join(_CERTIFICATE_CHECKS)}"
        )
    # A name cannot be checked without a certificate that is.
    checks_name = str(options.get("ssl_check_hostname", "true")).lower() != "false" and checks == "required"
    return {**options, "ssl_cert_reqs": checks, "ssl_check_hostname": checks_name}


def url_without_tls(url: str) -> str:
    """The URL, or several with `;` between them, for who takes the TLS options apart from it."""
    if scheme_of(url) not in REDIS_SCHEMES or "ssl_" not in url:
        return url
    return ";".join(_without_tls(each) for each in url.split(";"))


def configured_url(url: str) -> str:
    """The URL for Celery's configuration: whoever looks at it there would be told that it is insecure.

    kombu warns of each rediss:// URL that says nothing about certificates, whatever is said elsewhere.
    """
    plain, tls = url_without_tls(url), tls_options(url)
    if scheme_of(url) != "rediss" or tls is None:
        return plain
    options = urlencode(tls)
    return ";".join(f"{each}{'&' if _query(each) else '?'}{options}" for each in plain.split(";"))


def broker_url_of(app: Any) -> str:
    """Where a Celery application sends to: the first of its brokers, Celery's default without any."""
    url = app.conf.broker_write_url or "amqp://"
    return str(url if isinstance(url, str) else url[0])


def settings_of_host(app: Any, settings: Settings) -> Settings:
    """The settings with the broker of a Celery application, as far as it names its Sentinels' master.

    Raises:
        SettingsError: its broker has no URL.
    """
    options = app.conf.broker_transport_options or {}
    sentinels = options.get("sentinel_kwargs") or {}
    return replace(
        settings,
        broker_url=broker_url_of(app),
        sentinel_master_name=options.get("master_name") or settings.sentinel_master_name,
        sentinel_password=sentinels.get("password") or settings.sentinel_password,
    )


def error_text(error: BaseException) -> str:
    """What a driver's error says; a Sentinel by its address, not by all options of its connection."""
    text = _SENTINEL.sub(r"\g<host>:\g<port>", str(error))
    return text.partition(" : <redis.")[0]


def scheme_of(url: str) -> str:
    """The scheme that says which server it is: of redis+socket:// the first part."""
    return url.partition("://")[0].partition("+")[0].lower()


def _query(url: str) -> str:
    return url.rpartition("@")[2].partition("?")[2]


def _without_tls(url: str) -> str:
    query = _query(url)
    if not query:
        return url
    others = "&".join(option for option in query.split("&") if not option.startswith("ssl_"))
    return url.removesuffix(f"?{query}") + (f"?{others}" if others else "")


def _is_embedded(settings: Settings) -> bool:
    return scheme_of(settings.broker_url) == "embedded"


def _embedded_options(settings: Settings) -> dict[str, Any]:
    # Imported here: it needs kombu, and only this kind of broker needs it.
    from execution_logger.broker.embedded import transport_options  # noqa: PLC0415

    return transport_options(settings.broker_url)


class Backoff:
    """Pauses that double up to a maximum, each shortened by a random part.

    The random part keeps a fleet of hosts from knocking on a recovered broker in step ("equal
    jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter").
    """

    def __init__(self, max_seconds: float, random_fraction: Callable[[], float] = random.random) -> None:
        self._max_seconds = max_seconds
        self._random_fraction = random_fraction
        self._failures = 0

    def next_pause_seconds(self) -> float:
        """The pause after one more failure: between half of the full pause and all of it."""
        full = min(self._max_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return full * (0.5 + self._random_fraction() / 2)

    def reset(self) -> None:
        """Start again with the shortest pause."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class QueueView:
    """What the broker has of the queue; None where this kind of broker cannot tell."""

    waiting: int
    in_flight: int | None
    """Taken by workers and not acknowledged."""
    oldest_sent_at: float | None
    """When the message that comes next was sent, at the earliest, in seconds since 1970 by our clock."""
