"""What the doctor makes of the workers' answers."""

import time
from dataclasses import replace
from typing import Any

import pytest

from execution_logger import Settings
from execution_logger.broker.connection import TASK_NAME
from execution_logger.operate.doctor import Level, Subject
from execution_logger.operate.doctor.workers import judge_workers
from execution_logger.worker.app import worker_configuration
from execution_logger.worker.inspection import Inspected, describe

REDIS = "redis://:secret@broker:6379/0"
SETTINGS = Settings(broker_url=REDIS, database_url="postgresql://u:secret@db/logs")


def worker(settings: Settings = SETTINGS, **changes: Any) -> Inspected:
    """One of ours, as `execution-logger worker` runs it."""
    configuration = worker_configuration(settings)
    at = time.time()
    described = {**describe(settings), "pool": "thread", "time": at}
    one = Inspected("logs@a", ("logs",), frozenset((TASK_NAME,)), configuration, described, (at, at))
    return replace(one, **changes)


def hosts_own(**options: Any) -> Inspected:
    """A host's worker without our task; `options` are those of its connection."""
    configuration = {"broker_transport_options": options} if options else {}
    return Inspected("host@a", ("celery",), frozenset(("host.task",)), configuration)


def with_options(**options: Any) -> dict[str, Any]:
    """The configuration of a worker of ours with other transport options."""
    configuration = worker_configuration(SETTINGS)
    return {**configuration, "broker_transport_options": configuration["broker_transport_options"] | options}


def findings(*workers: Inspected, settings: Settings = SETTINGS, **environ: str) -> dict[str, Level]:
    """What is found that is not all right."""
    found = list(judge_workers(workers, Subject(settings, environ, time.time)))
    assert "secret" not in str(found)
    return {finding.name: finding.level for finding in found if finding.level is not Level.OK}


def test_workers_of_ours_are_all_right() -> None:
    """Any number of them, with names of their own."""
    assert findings(worker(), worker(name="logs@b")) == {}


def test_a_worker_that_told_only_half_is_judged_by_that() -> None:
    """It may have been busy for the rest; that is no finding."""
    assert findings(worker(tasks=None, configuration=None, description={})) == {}


def test_workers_of_one_name_are_found() -> None:
    """Each answers, and everybody takes them for one."""
    assert findings(worker(), worker()) == {"workers.names": Level.WARNING}


def test_a_host_whose_long_tasks_would_run_twice_is_found() -> None:
    """Celery keeps what workers have in hand in one place for each Redis database; ours has its own."""
    assert findings(worker(), hosts_own()) == {}
    shared = worker(configuration=with_options(unacked_key=None))
    assert findings(shared, hosts_own()) == {"workers.neighbours": Level.WARNING}
    assert findings(shared, hosts_own(visibility_timeout=60)) == {}
    assert findings(shared, hosts_own(global_keyprefix="host:")) == {}
    assert findings(shared, hosts_own(unacked_key="host-unacked")) == {}


def test_a_long_visibility_timeout_matters_without_confirmations() -> None:
    """Otherwise a host that hears nothing of a batch sends it again. And who has chosen an hour knows it."""
    silent = replace(SETTINGS, confirmation="off")
    hour = replace(silent, visibility_timeout_seconds=3600)
    assert findings(worker(replace(SETTINGS, visibility_timeout_seconds=3600))) == {}
    assert findings(worker(hour), settings=hour) == {}
    assert findings(worker(hour), settings=silent) == {"workers.visibility_timeout": Level.WARNING}


def test_a_long_visibility_timeout_matters_when_word_is_left_elsewhere() -> None:
    """The host looks for it in vain."""
    lost = replace(SETTINGS, visibility_timeout_seconds=3600, result_backend="redis://:secret@broker:6379/7")
    assert findings(worker(lost)) == {
        "workers.result_backend": Level.ERROR,
        "workers.visibility_timeout": Level.WARNING,
    }


def test_a_visibility_timeout_that_is_too_short_is_an_error() -> None:
    """A batch that is being written comes to another worker."""
    found = findings(worker(configuration=with_options(visibility_timeout=15)))
    assert found == {"workers.visibility_timeout": Level.ERROR}


def test_a_worker_without_a_socket_timeout_is_found() -> None:
    """A dead connection stops it for ever."""
    found = findings(worker(configuration=with_options(socket_timeout=None)))
    assert found == {"workers.socket_timeout": Level.WARNING}


def test_brokers_other_than_redis_have_no_such_options() -> None:
    """RabbitMQ knows when a worker is gone."""
    settings = replace(SETTINGS, broker_url="amqp://broker//", confirmation="off")
    assert findings(worker(settings), settings=settings) == {}


@pytest.mark.parametrize("content", ["pickle", "application/x-python-serialize"])
def test_pickle_is_an_error(content: str) -> None:
    """By both of its names."""
    found = findings(worker(configuration=with_options() | {"accept_content": ["json", content]}))
    assert found == {"workers.content": Level.ERROR}


def test_an_untested_pool_is_found() -> None:
    """The event loop's thread was never tried there."""
    described = {**worker().description, "pool": "gevent"}
    assert findings(worker(description=described)) == {"workers.pool": Level.WARNING}


def test_a_time_limit_that_ends_an_attempt_is_found() -> None:
    """It would kill the worker's child while it writes."""
    assert findings(worker(configuration=with_options() | {"task_time_limit": 5})) == {
        "workers.time_limit": Level.WARNING
    }
    assert findings(worker(configuration=with_options() | {"task_time_limit": 300})) == {}


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        ("postgresql://u:secret@db/logs", {}),
        ("postgres://other:secret@127.0.0.1:5432/logs", {}),
        ("postgresql://u:secret@db/other", {"workers.database": Level.ERROR}),
        ("sqlite:////logs", {"workers.database": Level.ERROR}),
    ],
)
def test_only_a_database_that_cannot_be_the_same_is_found(theirs: str, found: dict[str, Level]) -> None:
    """A server has other names for other machines."""
    assert findings(worker(replace(SETTINGS, database_url=theirs))) == found


def test_another_table_or_time_zone_is_found() -> None:
    """The zone only where it was set here, too."""
    assert findings(worker(replace(SETTINGS, table="other"))) == {"workers.table": Level.ERROR}
    elsewhere = worker(replace(SETTINGS, time_zone="Asia/Shanghai"))
    assert findings(elsewhere) == {}
    found = findings(elsewhere, EXECUTION_LOGGER_TIME_ZONE="UTC")
    assert found == {"workers.time_zone": Level.WARNING}


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        ({}, {}),
        ({"broker_url": "redis://redis:6379/0"}, {}),
        ({"result_backend": "redis://broker:6379/1"}, {"workers.result_backend": Level.ERROR}),
        ({"result_backend": "redis://elsewhere:6379/0"}, {"workers.result_backend": Level.ERROR}),
        ({"confirmation": "off"}, {"workers.result_backend": Level.WARNING}),
    ],
)
def test_only_a_result_backend_that_cannot_be_the_same_is_found(
    theirs: dict[str, Any], found: dict[str, Level]
) -> None:
    """Both sides have the same broker, whatever each calls it."""
    assert findings(worker(replace(SETTINGS, **theirs))) == found


def test_a_worker_of_an_older_version_is_not_compared() -> None:
    """It does not know the question."""
    assert findings(worker(description={})) == {}


def test_a_clock_that_is_wrong_is_found() -> None:
    """By more than the answer was on its way."""
    described = {**worker().description, "time": time.time() - 100}
    assert findings(worker(description=described)) == {"workers.clock": Level.WARNING}
    long_way = (time.time() - 200, time.time())
    assert findings(worker(description=described, described_between=long_way)) == {}
