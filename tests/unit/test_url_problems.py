"""What a URL says of itself is looked at by every role when it starts, and alike."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend

from execution_logger import Settings, SettingsError
from execution_logger.broker.confirmations import result_backend_url
from execution_logger.broker.queue import check_broker_url
from execution_logger.delivery.select import select_delivery
from execution_logger.settings import BROKER, DATABASE, WORKER
from execution_logger.store import create_engine
from execution_logger.urls import broker_problem, database_problem, results_problem
from execution_logger.worker import create_app, register_tasks
from execution_logger.worker.app import create_client

Role = Callable[[], object]

ROLES: dict[str, Role] = {
    "host": lambda: select_delivery(Settings.from_environment()),
    "worker": create_app,
    "host's own worker": lambda: register_tasks(Celery("host", set_as_current=False)),
    "Beat and Flower": create_client,
}
OF_THE_BROKER = ROLES
OF_THE_DATABASE = {name: ROLES[name] for name in ("worker", "host's own worker")}
OF_THE_DATABASE |= {
    "host": ROLES["host"],
    "command": lambda: create_engine(Settings.from_environment(uses=DATABASE), pool_size=1),
}

BROKERS = [
    ("redis://:s3cret@h:x/0", "a port is a number"),
    ("redis://:s3/cret@h/0", "characters such as / and # in a password are percent-encoded"),
    ("redis://h/s3cret", "the number of Redis' database: redis://host/0"),
    ("rediss://h/0/", "the number of Redis' database: rediss://host/0"),
    ("redis://a/0;redis://b/s3cret", "the number of Redis' database"),
    ("redis+foo://h", "redis+foo:// is not supported"),
    ("redis+cluster://h", "redis+cluster:// is not supported"),
    ("redis+sentinel://h", "redis+sentinel:// is not supported"),
    ("redis+sokcet:///x", "did you mean redis+socket://?"),
    ("redis+socket://run/redis.sock", "three slashes: redis+socket:///folder"),
    ("amqp+ssl://h", "amqp+ssl:// is not supported"),
    ("amqp://h:x//", "a port is a number"),
    ("embedded://folder", "three slashes: embedded:///folder"),
    ("embedded://folder/broker", "three slashes: embedded:///folder"),
]
DATABASES = [
    ("postgresql://u:s3cret@h/d?sslmode=on", "sslmode='on' must be one of"),
    ("postgresql://u:s3cret@h/d?sslmode=require&sslmode=require", "sslmode='require,require' must be one of"),
    ("postgresql://u:s3cret@h/d?sslmod=require", "did you mean sslmode?"),
    ("postgresql://u:s3cret@h/d?connect_timeout=soon", "connect_timeout='soon' must be"),
    ("postgresql://u:s3cret@h:port/d", "cannot be read"),
    ("postgresql://u:s3cret@a:1,b:2/d", "cannot be read"),
    ("postgresql://u:s3cret@h:/d", "cannot be read"),
    ("sqlite://logs.db", "sqlite:///file, or four, sqlite:////folder/file"),
    ("sqlite://folder/logs.db", "sqlite:///file, or four"),
    ("sqlite+libsql://h/?authToken=s3cret", "sqlite:///file, or four"),
    ("mysql://u:s3cret@h/d", "mysql:// is not supported"),
]
RESULTS = [
    ("redi://:s3cret@h", "redi:// is not supported: must be redis://.*did you mean redis://?"),
    ("redis+foo://h", "redis+foo:// is not supported"),
    ("redis://:s3cret@h:x/0", "a port is a number"),
    ("redis://h/s3cret", "the number of Redis' database"),
    ("sentinel://a/0;sentinel://b/s3cret", "the number of Redis' database"),
]


def check(role: Role, variable: str, problem: str) -> None:
    """It does not start, and says in one line what to write."""
    with pytest.raises(SettingsError) as caught:
        role()
    said = str(caught.value)
    assert said.startswith(f"{variable}=(hidden): ")
    for part in problem.split(".*"):
        assert part in said
    assert "s3cret" not in said
    assert "\n" not in said


@pytest.fixture(autouse=True)
def _a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///unused.db")


@pytest.mark.parametrize("role", OF_THE_BROKER)
@pytest.mark.parametrize(("url", "problem"), BROKERS)
def test_a_broker_that_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, role: str, url: str, problem: str
) -> None:
    """Instead of an error with each batch, or of another server on this machine."""
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    check(OF_THE_BROKER[role], "CELERY_BROKER_URL", problem)


@pytest.mark.parametrize("role", OF_THE_DATABASE)
@pytest.mark.parametrize(("url", "problem"), DATABASES)
def test_a_database_that_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, role: str, url: str, problem: str
) -> None:
    """A host that writes to it itself is told, too."""
    monkeypatch.setenv("DATABASE_URL", url)
    if role == "host":
        monkeypatch.setenv("CELERY_ENABLED", "false")
    check(OF_THE_DATABASE[role], "DATABASE_URL", problem)


@pytest.mark.parametrize("role", OF_THE_BROKER)
@pytest.mark.parametrize("variable", ["CELERY_RESULT_BACKEND", "EXECUTION_LOGGER_RESULT_BACKEND"])
@pytest.mark.parametrize(("url", "problem"), RESULTS)
def test_a_result_backend_that_leads_nowhere(
    monkeypatch: pytest.MonkeyPatch, role: str, variable: str, url: str, problem: str
) -> None:
    """Instead of confirmations that are off without a word."""
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://h")
    monkeypatch.setenv(variable, url)
    check(OF_THE_BROKER[role], variable, problem)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        *(({"broker_url": url}, problem) for url, problem in BROKERS),
        *(({"database_url": url, "celery_enabled": False}, problem) for url, problem in DATABASES),
        *(({"result_backend": url, "sentinel_master_name": "m"}, problem) for url, problem in RESULTS),
        ({"result_backend": "rediss://h?ssl_cert_reqs=maybe"}, "ssl_cert_reqs=maybe: must be one of"),
    ],
)  # fmt: skip
def test_settings_of_code_are_looked_at_as_well(settings: dict[str, Any], problem: str) -> None:
    """By the host that uses them."""
    with pytest.raises(SettingsError) as caught:
        select_delivery(Settings(**settings))
    for part in problem.split(".*"):
        assert part in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://", "redis://h", "redis://h/", "redis://h//", "REDIS://u:p@h:6379/15", "rediss://h/0?ssl_cert_reqs=none",
        "redis://[::1]:6379/0", "redis://a/0;redis://b/1", "redis+socket:///run/redis.sock?virtual_host=1",
        "redis+socket://:p@/run/redis.sock", "sentinel://a:26379/0;sentinel://b:26379", "amqp://", "pyamqp://u:p@h//",
        "amqps://u:p%23@h:5671/vhost?heartbeat=10",
    ],
)  # fmt: skip
def test_brokers_that_lead_somewhere(url: str) -> None:
    """Kombu takes them."""
    assert broker_problem(url) is None
    check_broker_url(Settings(broker_url=url, sentinel_master_name="m"))


def test_a_broker_of_one_process_is_for_code_only() -> None:
    """A test for instance."""
    assert "memory:// is not supported" in (broker_problem("memory://") or "")
    assert broker_problem("memory://", in_code=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://", "postgres:///d", "PostgreSQL+psycopg2://u:p#?s@h:5432/d?sslmode=Require&schema=x",
        "postgresql://u:p:q@[::1]:5432/d", "postgresql://h/d?connect_timeout=-1&sslmode=", "postgresql:///d?host=/run",
        "postgresql:///d?host=a:1&host=b:2", "postgresql://h/d?ssl=true", "sqlite://", "sqlite:///:memory:",
        "SQLite+pysqlite:////var/logs.db?timeout=soon", "sqlite:///C:\\logs.db", "sqlite:///file:x?uri=true&mode=memory",
    ],
)  # fmt: skip
async def test_databases_that_lead_somewhere(url: str) -> None:
    """SQLAlchemy takes them."""
    assert database_problem(url) is None
    await create_engine(Settings(database_url=url), pool_size=1).dispose()


@pytest.mark.parametrize(
    "url",
    [
        *(f"{name}://h" for name in BACKEND_ALIASES if name != "file"), "db+postgresql://u:p@h/d",
        "cache+memcached://h", "rpc", "disabled", "django-db", "mine.backends:Backend", "redislite://h",
        "mine.backends:Backend+redis://h", "rediscluster://h", "redis", "redis://h/0/", "redis://:p;q@h/1",
        "redis+socket:///run/redis.sock",
    ],
)  # fmt: skip
def test_a_result_backend_of_the_hosts_own_is_its_business(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """It may be any of Celery's, and need what is not installed here; no role makes it."""
    monkeypatch.setenv("CELERY_RESULT_BACKEND", url)
    assert Settings.from_environment().result_backend == url
    for make in (create_client, create_app):
        with closing(make()) as app:
            assert isinstance(app.backend, RedisBackend)  # the broker, if that will not do
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://h")
    with closing(create_client()) as app:
        assert isinstance(app.backend, RedisBackend | DisabledBackend)


@pytest.mark.parametrize("url", ["rpc://", "db+postgresql://h/d", "redislite://h", "rpc"])
def test_a_result_backend_of_ours_is_one_that_confirms(url: str) -> None:
    """Nothing else is meant by its name."""
    environ = {"EXECUTION_LOGGER_RESULT_BACKEND": url}
    with pytest.raises(
        SettingsError, match="is not supported: must be redis://, rediss://, sentinel:// or file"
    ):
        Settings.from_environment(environ)
    assert results_problem(url) is None


@pytest.mark.parametrize("uses", [None, BROKER, WORKER])
def test_without_confirmations_a_result_backend_may_be_anything(uses: frozenset[str] | None) -> None:
    """Nobody uses it."""
    environ = {"CELERY_RESULT_BACKEND": "redi://h", "EXECUTION_LOGGER_CONFIRMATION": "off"}
    assert result_backend_url(Settings.from_environment(environ, uses=uses)) is None
