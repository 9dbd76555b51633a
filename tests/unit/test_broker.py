"""How to connect to the broker: short outages for hosts, quick redelivery for workers, no passwords shown."""

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from execution_logger import Settings
from execution_logger.broker import broker_url_of, producer_options, public_url, worker_options


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
    assert producer_options(Settings(broker_url=url)) == {"socket_timeout": 1, "max_retries": 0}


@pytest.mark.parametrize("url", ["redis://host", "rediss://host", "sentinel://host"])
def test_batches_of_a_killed_worker_come_back_soon(url: str) -> None:
    """After the visibility timeout and the next sweep; and a peer that went silent is noticed."""
    assert worker_options(Settings(broker_url=url, visibility_timeout_seconds=90)) == {
        "visibility_timeout": 90,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "health_check_interval": 5,
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
