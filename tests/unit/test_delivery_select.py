"""Which delivery the settings ask for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from children import run_script
from execution_logger import Settings
from execution_logger.delivery import Delivery
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.delivery.database import DatabaseDelivery
from execution_logger.delivery.fallback import FallbackDelivery
from execution_logger.delivery.select import select_delivery


@pytest.fixture
def deliveries() -> Iterator[list[Delivery]]:
    """What a test has made, to be closed after it."""
    deliveries: list[Delivery] = []
    yield deliveries
    for delivery in deliveries:
        delivery.close()


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, CeleryDelivery),
        ({"celery_enabled": False}, DatabaseDelivery),
        ({"fallback": "direct"}, FallbackDelivery),
        ({"celery_enabled": False, "fallback": "direct"}, DatabaseDelivery),
    ],
)
def test_the_settings_choose(
    deliveries: list[Delivery], tmp_path: Path, settings: dict[str, Any], kind: type
) -> None:
    """By Celery, to the database, or to the database while Celery's broker is away."""
    make = select_delivery(Settings(database_url=f"sqlite:///{tmp_path}/logs.db", **settings))
    deliveries.append(make())
    assert type(deliveries[0]) is kind


def test_by_celery_first(deliveries: list[Delivery], tmp_path: Path) -> None:
    """The database is the second way, not the first."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/logs.db", fallback="direct")
    deliveries.append(select_delivery(settings)())
    parts = vars(deliveries[0])
    assert [type(parts[name]) for name in ("_first", "_second")] == [CeleryDelivery, DatabaseDelivery]


def test_the_hosts_application_is_handed_on(deliveries: list[Delivery]) -> None:
    """Its broker is the one to send to."""
    app = Celery("host", set_as_current=False)
    deliveries.append(select_delivery(Settings(), app)())
    assert vars(deliveries[0])["_host_app"] is app


@pytest.mark.parametrize(
    ("settings", "loaded"),
    [
        ("broker_url='memory://'", {"celery"}),
        ("celery_enabled=False, database_url='sqlite:///unused.db'", {"sqlalchemy"}),
    ],
)
def test_only_what_is_needed_is_loaded_and_only_when_it_is_made(settings: str, loaded: set[str]) -> None:
    """Choosing is the host's thread's work, and costs nothing; a host without Celery never loads it."""
    output = run_script(
        f"""
        import sys
        from execution_logger import Settings
        from execution_logger.delivery.select import select_delivery
        heavy = {{"celery", "kombu", "sqlalchemy", "asyncpg"}}
        make = select_delivery(Settings({settings}))
        print(*heavy & set(sys.modules))
        make().close()
        print(*heavy & set(sys.modules))
        """
    )
    before, after = (set(line.split()) for line in output.splitlines())
    assert before == set()
    assert after & {"celery", "sqlalchemy"} == loaded
