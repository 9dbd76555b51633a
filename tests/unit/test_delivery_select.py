"""Which delivery the settings ask for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from children import run_script
from execution_logger import ExecutionLogger, Settings, SettingsError
from execution_logger.delivery import Delivery
from execution_logger.delivery.celery import CeleryDelivery
from execution_logger.delivery.database import DatabaseDelivery
from execution_logger.delivery.select import FallbackDelivery, select_delivery


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
        from execution_logger import ExecutionLogger, Settings, SettingsError
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


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redi://host/0", "redi:// is not supported: must be redis://.*did you mean redis://?"),
        ("sqs://key:s3cret@", "sqs:// is not supported"),
        ("redis://a/0;gcpubsub://b", "gcpubsub:// is not supported"),
        ("sentinel://host:26379/0", "SENTINEL_MASTER_NAME is not set"),
        ("rediss://host/0?ssl_cert_reqs=maybe", "ssl_cert_reqs=maybe: must be one of"),
    ],
)
def test_a_broker_that_cannot_work_stops_the_first_call(url: str, problem: str) -> None:
    """Instead of failing in the background for ever; the same at the start of a lifespan."""
    with pytest.raises(SettingsError, match=problem) as caught:
        ExecutionLogger(Settings(broker_url=url)).sync.info("t", "agent", "hello")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingsError, match=problem):
        ExecutionLogger(Settings(broker_url=url)).sync.start()


@pytest.mark.parametrize(
    ("settings", "who"),
    [({"celery_enabled": False}, "CELERY_ENABLED=false"), ({"fallback": "direct"}, "FALLBACK=direct")],
)
def test_who_writes_to_the_database_must_know_one(settings: dict[str, Any], who: str) -> None:
    """Also where the settings come from code."""
    with pytest.raises(SettingsError, match=f"^DATABASE_URL is not set: {who} needs it"):
        ExecutionLogger(Settings(**settings)).sync.start()


def test_the_broker_of_the_hosts_application_is_looked_at_instead() -> None:
    """With it CELERY_BROKER_URL leads nowhere, and may be anything."""
    app = Celery("host", broker="sqs://key:s3cret@", set_as_current=False)
    problem = "^the broker of the Celery application: sqs:// is not supported"
    with pytest.raises(SettingsError, match=problem) as caught:
        select_delivery(Settings(), app)
    assert "s3cret" not in str(caught.value)
    app.conf.broker_url = "redis://host/0"
    select_delivery(Settings(broker_url="redi://host/0"), app)


@pytest.mark.parametrize("settings", [{"CELERY_ENABLED": "false"}, {"EXECUTION_LOGGER_FALLBACK": "direct"}])
@pytest.mark.parametrize("package", ["sqlalchemy", "asyncpg"])
def test_a_missing_package_stops_the_first_call(
    settings: dict[str, str], package: str, tmp_path: Path
) -> None:
    """A host that writes to the database itself needs the worker's extra, and hears of it at its start."""
    output = run_script(
        f"""
        import sys
        sys.modules[{package!r}] = None
        from execution_logger import SettingsError, execution_logger
        for call in (execution_logger.sync.start, execution_logger.sync.stats):
            try:
                call()
            except SettingsError as error:
                print(error)
        """,
        environment={"DATABASE_URL": f"sqlite:///{tmp_path}/logs.db", **settings},
    )
    name = "=".join(*settings.items()).removeprefix("EXECUTION_LOGGER_")
    assert output.splitlines() == [
        f'{name} needs {package}: pip install "celery-execution-logger[worker]"',
    ] * 2  # fmt: skip
