"""The worker's confirmation of each batch, read and written through Celery's own result backend.

A result is Celery's in key and format (`celery-task-meta-<batch id>`), so that whatever reads the
results of tasks reads these too. Of Celery's backends those are used that hold bytes, and whose
every failure ends within seconds: Redis, with or without Sentinel, and a folder for the embedded broker.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from celery import Celery
from celery.app.backends import by_url
from celery.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from execution_logger.broker.connection import (
    REDIS_SCHEMES,
    error_text,
    is_sentinel,
    scheme_of,
    sentinel_options,
    tls_options,
    url_without_tls,
)
from execution_logger.errors import ResultsUnavailableError, SettingsError
from execution_logger.settings import Settings
from execution_logger.text import public_url

STORED = "SUCCESS"
HELD = "HELD"
"""The worker has the batch, and waits for the database."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the worker says of a batch."""

    is_stored: bool
    """False: the worker has it, and waits for the database."""
    dead_lettered: int = 0
    """How many of its entries the database has refused."""


class Confirmation(msgspec.Struct):
    """A state of Celery's, and what goes with it."""

    status: str
    result: Any = None


_decode = msgspec.json.Decoder(Confirmation).decode


def result_backend_url(settings: Settings) -> str | None:
    """Where the worker's confirmations are kept; None when there is no such place.

    That is `settings.result_backend`, if it is a Redis or a folder; else the broker, if that is a
    Redis (of several, with `;` between them, the first; Sentinels stay together); else a folder beside
    the messages of an embedded broker. Other result backends are no such place: rpc:// and amqp:// results
    are gone with who asked for them, and Celery's databases unpickle. None for `confirmation="off"`.
    """
    if settings.confirmation == "off":
        return None
    if settings.result_backend and _is_usable(settings.result_backend, settings):
        return settings.result_backend
    broker = settings.broker_url
    if scheme_of(broker) == "embedded":
        return f"file://{unquote(urlsplit(broker).path)}/results"
    if is_sentinel(broker):
        return broker
    return broker.split(";")[0] if scheme_of(broker) in REDIS_SCHEMES else None


def result_backend_configuration(
    settings: Settings, url: str, timeout_seconds: float = 1.0
) -> dict[str, Any]:
    """Celery's settings for this result backend, of which not all can be said in its URL.

    A folder is made: Celery insists on it.

    Raises:
        SettingsError: the name of Sentinel's master is missing, a TLS option cannot be used, or a folder
            cannot be made.
    """
    if scheme_of(url) == "file":
        _make_folder(url)
    # Celery's own policy tries once more every second, 20 times.
    options = {"retry_policy": {"max_retries": 0}, **sentinel_options(settings, url, timeout_seconds)}
    return {
        "result_backend": url_without_tls(url),
        "result_backend_transport_options": options,
        # Celery insists on what a broker's URL may leave out, and takes it from the URL for rediss:// only.
        "redis_backend_use_ssl": tls_options(url),
    }


class Confirmations:
    """Celery's result backend; every failure of it is one kind of error, within about `timeout_seconds`.

    Any number of threads may use it, but only in the process that made it.

    Args:
        settings: of which `result_backend_url` must have a URL.
        timeout_seconds: longest wait for a connection, and for an answer.

    Raises:
        SettingsError: there is no URL, or it cannot be used. Nothing is connected yet.
    """

    def __init__(self, settings: Settings, *, timeout_seconds: float) -> None:
        url = result_backend_url(settings)
        if url is None:
            raise SettingsError(
                "CELERY_RESULT_BACKEND: confirmations need redis://, rediss://, sentinel:// or file://"
            )
        self._name = public_url(url)
        self._is_redis = scheme_of(url) in REDIS_SCHEMES
        configuration = _configuration(settings, url, timeout_seconds)
        # Without a configuration of its own it would read that of the host's environment.
        self._app = Celery(
            "execution_logger.results",
            set_as_current=False,
            fixups=(),
            config_source=configuration,
        )
        variable = "CELERY_RESULT_BACKEND" if settings.result_backend else "CELERY_BROKER_URL"
        self.backend = self._make_backend(configuration["result_backend"], timeout_seconds, variable)

    def outcomes(self, batch_ids: Sequence[str]) -> dict[str, Outcome]:
        """What is known of these batches, in one request; a batch without a confirmation is absent.

        Raises:
            ResultsUnavailableError: the backend does not answer.
        """
        outcomes = {}
        for batch_id, payload in zip(batch_ids, self._read(batch_ids), strict=True):
            result = _decoded(payload)
            if result is not None and result.status in (STORED, HELD):
                outcomes[batch_id] = Outcome(result.status == STORED, _dead_lettered(result))
        return outcomes

    def result(self, batch_id: str) -> Confirmation | None:
        """The state and the result as they are.

        Raises:
            ResultsUnavailableError: the backend does not answer.
        """
        (payload,) = self._read([batch_id])
        return _decoded(payload)

    def store(self, batch_id: str, state: str, result: dict[str, Any]) -> None:
        """Leave a confirmation; what says that it is stored is never overwritten.

        Raises:
            ResultsUnavailableError: the backend does not answer.
        """
        with self.errors():
            self.backend.store_result(batch_id, result, state)

    def forget(self, batch_ids: Sequence[str]) -> None:
        """Delete what is known of these batches, in one request; what is not there is no error.

        Raises:
            ResultsUnavailableError: the backend does not answer.
        """
        if not batch_ids:
            return
        with self.errors():
            keys = self._keys(batch_ids)
            if self._is_redis:
                self.backend.client.delete(*keys)
                return
            for key in keys:
                with suppress(FileNotFoundError):
                    self.backend.delete(key)

    def close(self) -> None:
        """Close the connections; the next request would open others."""
        if self._is_redis:
            pool = self.backend.client.connection_pool
            pool.disconnect()
            # A pool behind Sentinel does not close what it has asked the Sentinels through.
            for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
                sentinel.close()
        self._app.close()

    def _read(self, batch_ids: Sequence[str]) -> Sequence[bytes | None]:
        if not batch_ids:
            return []
        with self.errors():
            return list(self.backend.mget(self._keys(batch_ids)))

    def _keys(self, batch_ids: Sequence[str]) -> list[bytes]:
        return [self.backend.get_key_for_task(batch_id) for batch_id in batch_ids]

    def _make_backend(self, url: str, timeout_seconds: float, variable: str) -> Any:
        try:
            backend_class, backend_url = by_url(url, self._app.loader)
            backend = backend_class(app=self._app, url=backend_url)
        except (
            ImproperlyConfigured,
            ImportError,
            ValueError,
        ) as error:  # whose text can hold parts of the password
            raise SettingsError(
                f"{variable}=(hidden): cannot be used ({type(error).__name__}); it must be a URL "
                "such as redis://:password@host:6379/0 or file:///folder"
            ) from None
        if self._is_redis:
            # redis-py itself would try a command four times; and an option in the URL would win.
            backend.connparams.update(socket_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0))
            if "path" not in backend.connparams:  # not a socket in the file system
                backend.connparams["socket_connect_timeout"] = timeout_seconds
        return backend

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let whatever the backend raises be a `ResultsUnavailableError`."""
        try:
            yield
        except Exception as error:
            raise ResultsUnavailableError(
                f"{self._name}: {type(error).__name__}: {error_text(error)}"
            ) from error


def _configuration(settings: Settings, url: str, timeout_seconds: float) -> dict[str, Any]:
    return {
        **result_backend_configuration(settings, url, timeout_seconds),
        "enable_utc": True,
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_expires": settings.confirmation_expires_seconds,
        "result_cache_max": -1,
        "redis_socket_timeout": timeout_seconds,
        "redis_socket_connect_timeout": timeout_seconds,
    }


def _make_folder(url: str) -> None:
    try:
        Path(re.sub("^file://(localhost)?", "", url)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the result backend {url} cannot be made ({type(error).__name__}): name a folder that this user "
            "may write to"
        ) from None


def _is_usable(url: str, settings: Settings) -> bool:
    """Whether confirmations can be kept there; a host's own Sentinels may be another matter than ours."""
    if is_sentinel(url):
        return settings.sentinel_master_name is not None
    return scheme_of(url) in (*REDIS_SCHEMES, "file")


def _decoded(payload: bytes | None) -> Confirmation | None:
    """None for what is not there, and for what somebody else writes at this moment or has left."""
    try:
        return _decode(payload) if payload else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _dead_lettered(result: Confirmation) -> int:
    number = result.result.get("dead_lettered", 0) if isinstance(result.result, dict) else 0
    return number if isinstance(number, int) else 0
