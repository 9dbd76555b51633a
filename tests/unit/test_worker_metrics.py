"""The worker's port: there while a worker runs, gone afterwards, and never in the way of a batch."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, signals
from celery.concurrency import thread

from children import in_fork, run_script
from execution_logger import Settings, SettingsError
from execution_logger.store import WriteResult
from execution_logger.worker import register_tasks
from execution_logger.worker.counters import WorkerCounters
from execution_logger.worker.metrics import WorkerCollector, show_metrics
from leaks import Resources
from scraping import samples, scrape
from server import free_port

NAME = "execution_logger_worker_"


@pytest.fixture
def app() -> Iterator[Celery]:
    """A worker's application."""
    app = Celery("worker", broker="memory://", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def settings() -> Settings:
    """With a port."""
    return Settings(database_url="sqlite:///unused.db", metrics_port=free_port())


def start(app: Celery) -> None:
    """As a worker of the application starts."""
    instance = SimpleNamespace(app=app, pool_cls=thread.TaskPool, concurrency=4)
    signals.celeryd_after_setup.send(sender="worker", instance=instance, conf=app.conf)


def end() -> None:
    """As any worker ends."""
    signals.worker_shutdown.send(sender="worker")


def test_the_counters_are_shown() -> None:
    """Under the names that the alert rules and the documentation use."""
    counters = WorkerCounters()
    counters.written(WriteResult(stored=3, duplicates=2, dead_lettered=1), 0.01)
    found = samples(WorkerCollector(counters).collect())
    assert found[f"{NAME}batches_written_total"] == 1
    assert found[f"{NAME}rows_stored_total"] == 3
    assert found[f"{NAME}rows_duplicate_total"] == 2
    assert found[f"{NAME}entries_dead_lettered_total"] == 1
    assert found[f"{NAME}batch_entries_sum"] == 6
    assert found[f'{NAME}write_seconds_bucket{{le="0.01"}}'] == 1
    assert (found[f"{NAME}database_up"], found[f"{NAME}database_down_seconds"]) == (1, 0)
    counters.failed()
    found = samples(WorkerCollector(counters).collect())
    assert found[f"{NAME}database_up"] == 0
    assert found[f"{NAME}database_down_seconds"] > 0


def test_the_port_is_there_while_the_worker_runs(app: Celery, settings: Settings) -> None:
    """With the process's own figures; afterwards no thread and no socket is left."""
    before = Resources.now()
    counters = WorkerCounters()
    show_metrics(app, settings, counters)
    with pytest.raises(OSError, match="refused"):
        scrape(settings.metrics_port)
    start(app)
    counters.failed()
    found = scrape(settings.metrics_port)
    assert found[f"{NAME}write_failures_total"] == 1
    assert found["process_resident_memory_bytes"] > 1_000_000
    end()
    before.check_given_back()
    end()


def test_the_worker_of_another_application_has_no_part_in_it(app: Celery, settings: Settings) -> None:
    """A process may have several applications, of which one runs a worker."""
    show_metrics(app, settings, WorkerCounters())
    start(Celery("other", set_as_current=False))
    with pytest.raises(OSError, match="refused"):
        scrape(settings.metrics_port)


def test_children_do_not_keep_the_port(app: Celery, settings: Settings) -> None:
    """A worker that is killed and starts again before its children have ended finds the port free."""
    show_metrics(app, settings, WorkerCounters())
    start(app)

    def sockets_in_child() -> int:
        before = len(Resources.now().held)
        signals.worker_process_init.send(sender="worker")
        return len(Resources.now().held) - before

    assert in_fork(sockets_in_child) == -1
    assert scrape(settings.metrics_port)
    end()


def test_a_port_that_is_taken_stops_no_worker(
    app: Celery, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Batches are more important than figures; the error says what to do."""
    for _ in range(2):
        show_metrics(app, settings, WorkerCounters())
    start(app)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert f"127.0.0.1:{settings.metrics_port} cannot be used" in record.getMessage()
    assert "EXECUTION_LOGGER_METRICS_PORT" in record.getMessage()
    end()


def test_the_task_shows_what_it_counts(app: Celery, settings: Settings) -> None:
    """`register_tasks` is all that a worker of the host's own needs."""
    register_tasks(app, settings)
    start(app)
    assert scrape(settings.metrics_port)[f"{NAME}batches_written_total"] == 0
    end()


def test_without_a_port_nothing_is_loaded() -> None:
    """The worker does not need the package then; with one, its start says what to install."""
    source = """
    import sys
    sys.modules["prometheus_client"] = None
    from celery import Celery
    from execution_logger import Settings, SettingsError
    from execution_logger.worker import register_tasks
    try:
        register_tasks(Celery(), Settings(database_url="sqlite:///x.db", metrics_port=int(sys.argv[1])))
        print("registered")
    except SettingsError as error:
        print(error)
    """
    assert run_script(source, 0) == "registered\n"
    assert run_script(source, 9540) == (
        'Metrics need prometheus_client: pip install "celery-execution-logger[prometheus]"\n'
    )


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_does_not_exist_is_an_error_of_the_start(port: Any) -> None:
    """It names the variable."""
    with pytest.raises(SettingsError, match=f"EXECUTION_LOGGER_METRICS_PORT={port}: must be at"):
        Settings(metrics_port=port)
