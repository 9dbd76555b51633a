"""How to connect to the broker: short outages for hosts, quick redelivery for workers, no passwords shown."""

import json
import re
from pathlib import Path
from ssl import CERT_NONE, CERT_REQUIRED
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from execution_logger import Settings, SettingsError
from execution_logger.broker.connection import (
    broker_url_of,
    configured_url,
    connection_arguments,
    error_text,
    producer_options,
    sentinel_options,
    settings_of_host,
    tls_options,
    url_without_tls,
    worker_options,
)
from execution_logger.text import public_url

SENTINELS = "sentinel://:secret@a:26379/1;sentinel://b:26379"

KEYS = {f"{name}_key": f"logs.{name}" for name in ("unacked", "unacked_index", "unacked_mutex")}
"""Of the worker's own: what it has in hand comes back soon, and a host's long tasks do not."""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@host:6379/0", "redis://host:6379/0"),
        ("rediss://user:secret@host/1?ssl_cert_reqs=required&password=secret", "rediss://host/1"),
        (
            "sentinel://:secret@a:26379;sentinel://:secret@b:26379/0",
            "sentinel://a:26379;sentinel://b:26379/0",
        ),
        ("amqp://user:secret@host//", "amqp://host//"),
        ("redis://:sec/ret@host/0", "redis://host/0"),
        ("redis://:sec@ret@host/0", "redis://host/0"),
        ("redis://:sec?ret@host/0", "redis://host/0"),
        ("redis://:sec#ret@[::1/0", "redis://[::1/0"),
        ("redis+socket://:secret@/run/redis.sock?virtual_host=1", "redis+socket:///run/redis.sock"),
        ("embedded:///path/of/folder", "embedded:///path/of/folder"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    """Of any URL that kombu takes, and of those that it does not take because nobody escaped them."""
    assert public_url(url) == shown


@pytest.mark.parametrize("url", ["redis://host", "rediss://host", "sentinel://host", "redis+socket:///path"])
def test_an_outage_costs_a_host_one_second_per_attempt(url: str) -> None:
    """Connecting and every answer included; kombu itself does not try again, we do."""
    assert producer_options(Settings(broker_url=url)) == {"socket_timeout": 1, "max_retries": 0, **KEYS}


@pytest.mark.parametrize("url", ["redis://host", "rediss://host"])
def test_batches_of_a_killed_worker_come_back_soon(url: str) -> None:
    """After the visibility timeout and the next sweep; and a peer that went silent is noticed."""
    assert worker_options(Settings(broker_url=url, visibility_timeout_seconds=90)) == {
        "visibility_timeout": 90,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "health_check_interval": 5,
        **KEYS,
    }


def test_other_brokers_get_only_what_they_understand() -> None:
    """AMQP takes options of a connection as arguments, and refuses unknown ones."""
    settings = Settings(broker_url="amqp://host//")
    assert producer_options(settings) == {"max_retries": 0}
    assert worker_options(settings) == {}


def test_the_embedded_broker_has_a_folder(tmp_path: Path) -> None:
    """Host and worker use the same one."""
    settings = Settings(broker_url=f"embedded://{tmp_path}/broker")
    options = producer_options(settings)
    assert options == worker_options(settings)
    assert options["data_folder_in"] == options["data_folder_out"] == str(tmp_path / "broker/messages")


@pytest.mark.parametrize(
    ("broker", "url"),
    [
        ("redis://one/0;redis://two/0", "redis://one/0;redis://two/0"),
        (["redis://one/0", "redis://two/0"], "redis://one/0"),
        (None, "amqp://"),
    ],
)
def test_the_broker_of_a_hosts_application(broker: Any, url: str) -> None:
    """However it names it, and also when it leaves that to Celery."""
    with Celery("host", set_as_current=False, broker=broker) as app:
        assert broker_url_of(app) == url


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("rediss://host", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        (
            "rediss://:a?b@host/0?ssl_ca_certs=%2Fca.pem&ssl_check_hostname=False",
            {"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "required", "ssl_check_hostname": False},
        ),
        (
            "sentinel://a/1;sentinel://b?ssl_ca_certs=/ca.pem",
            {"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "required", "ssl_check_hostname": True},
        ),
        ("redis://host/0", None),
        ("sentinel://host", None),
        ("amqps://host?ssl_ca_certs=/ca.pem", None),
    ],
)
def test_certificates_are_checked_unless_the_url_says_otherwise(
    url: str, options: dict[str, Any] | None
) -> None:
    """Kombu takes any certificate for a plain rediss:// URL; whoever wrote it wanted to be safe."""
    assert tls_options(url) == options
    if url.startswith("redis"):
        assert connection_arguments(Settings(broker_url=url))["ssl"] == (options or False)


def test_a_wrong_tls_option_is_named_without_the_password() -> None:
    """With what is allowed."""
    with pytest.raises(SettingsError, match="ssl_cert_reqs=maybe: must be one of required") as caught:
        tls_options("rediss://:secret@host?ssl_cert_reqs=maybe")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("rediss://:a?b@host/0?ssl_cert_reqs=none&ssl_ca_certs=x", "rediss://:a?b@host/0"),
        ("redis+socket:///run/x.sock?virtual_host=1", "redis+socket:///run/x.sock?virtual_host=1"),
        ("rediss://host?x=1&ssl_keyfile=k", "rediss://host?x=1"),
        ("sentinel://a/1;sentinel://b?ssl_ca_certs=/ca.pem", "sentinel://a/1;sentinel://b"),
        ("amqps://host?ssl_ca_certs=x", "amqps://host?ssl_ca_certs=x"),
    ],
)
def test_tls_options_are_taken_out_of_a_url(url: str, rest: str) -> None:
    """The rest is as it was."""
    assert url_without_tls(url) == rest


def test_the_way_by_sentinel_has_its_name_its_password_and_a_limit() -> None:
    """Kombu and Celery hand them to redis-py, which would wait for a Sentinel that hangs."""
    settings = Settings(broker_url=SENTINELS, sentinel_master_name="logs", sentinel_password="own")
    options = connection_arguments(settings)["transport_options"]
    assert options["master_name"] == worker_options(settings)["master_name"] == "logs"
    sentinels = options["sentinel_kwargs"]
    assert (sentinels["password"], sentinels["socket_timeout"], sentinels["socket_connect_timeout"]) == (
        "own",
        1,
        1,
    )
    assert "ssl" not in sentinels
    json.dumps(worker_options(settings))  # workers are asked for their configuration


def test_sentinels_speak_tls_as_the_redis_does() -> None:
    """One certificate authority has signed for both."""
    settings = Settings(sentinel_master_name="logs")
    options = sentinel_options(settings, "sentinel://host?ssl_ca_certs=/ca.pem")["sentinel_kwargs"]
    assert options["ssl"] is True
    assert options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize("use", [connection_arguments, worker_options])
def test_sentinel_needs_the_name_of_its_master(use: Any) -> None:
    """Otherwise nobody knows which Redis to ask for."""
    with pytest.raises(SettingsError, match="EXECUTION_LOGGER_SENTINEL_MASTER_NAME is not set"):
        use(Settings(broker_url="sentinel://host"))


def test_a_hosts_application_knows_its_sentinels() -> None:
    """Its transport options name the master, also for the confirmations."""
    with Celery("host", set_as_current=False, broker=SENTINELS) as app:
        app.conf.broker_transport_options = {"master_name": "its", "sentinel_kwargs": {"password": "p"}}
        settings = settings_of_host(app, Settings(sentinel_master_name="ours"))
    assert (settings.broker_url, settings.sentinel_master_name, settings.sentinel_password) == (
        SENTINELS,
        "its",
        "p",
    )


def test_an_error_names_sentinels_by_their_address() -> None:
    """Their client library names all options of each connection, in some versions the passwords, too."""
    make: Any = Sentinel  # without types
    options = {"password": "secret", "retry": Retry(NoBackoff(), 0)}
    sentinels = make([("127.0.0.1", 1), ("127.0.0.1", 2)], sentinel_kwargs=options)
    with pytest.raises(MasterNotFoundError) as failed:
        sentinels.discover_master("logs")
    for each in sentinels.sentinels:  # it has a `close()` of its own since redis-py 7
        each.close()
    why = (
        r"(network:ConnectionError|ConnectionError\('Error \d+ connecting to [\w.:]+ Connection refused\.'\))"
    )
    assert re.fullmatch(
        rf"No master found for 'logs' : 127\.0\.0\.1:1 - {why}, 127\.0\.0\.1:2 - {why}",
        error_text(failed.value),
    )
    assert error_text(ValueError("another one : <of its own>")) == "another one : <of its own>"


def test_what_an_error_of_another_version_says_of_connections_is_left_out() -> None:
    """Nobody knows how it will write them."""
    error = MasterNotFoundError("No master found for 'logs' : <redis.client.Redis({'password': 'secret'})>")
    assert error_text(error) == "No master found for 'logs'"


@pytest.mark.parametrize(
    ("url", "configured"),
    [
        ("rediss://:p@a/1", "rediss://:p@a/1?ssl_cert_reqs=required&ssl_check_hostname=True"),
        ("rediss://a?ssl_cert_reqs=none", "rediss://a?ssl_cert_reqs=none&ssl_check_hostname=False"),
        ("sentinel://a?ssl_ca_certs=/ca.pem", "sentinel://a"),
        ("redis://:p@a/1", "redis://:p@a/1"),
        ("amqps://a?ssl_ca_certs=/ca.pem", "amqps://a?ssl_ca_certs=/ca.pem"),
    ],
)
def test_the_url_in_celerys_configuration_says_that_certificates_are_checked(
    url: str, configured: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is warned of what is not so, and what is said apart from the URL is the same."""
    assert configured_url(url) == configured
    connection = Connection(configured, ssl=tls_options(url) or False)
    assert "insecure" not in caplog.text or "none" in url
    if url.startswith("rediss"):
        expected = CERT_NONE if "none" in url else CERT_REQUIRED
        assert connection.ssl["ssl_cert_reqs"] == expected
        assert connection.ssl["ssl_check_hostname"] is (expected == CERT_REQUIRED)
