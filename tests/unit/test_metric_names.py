"""The names of the metrics: what alert rules and documentation rely on is what is exported."""

import re
from collections.abc import Iterable

import pytest
from prometheus_client.core import Metric

from documents import ROOT, TRANSLATED, Document
from execution_logger import ExecutionLogger, Settings
from execution_logger.broker.queue import QueueLength
from execution_logger.integrations.prometheus import ExecutionLoggerCollector
from execution_logger.operate import facts
from execution_logger.operate.system_metrics import SystemCollector
from execution_logger.testing import MemoryDelivery
from execution_logger.worker.counters import WorkerCounters
from execution_logger.worker.metrics import WorkerCollector
from scraping import FakeRedis
from sqlite_site import make_tables

ALERTS = (ROOT / "deploy/prometheus/alerts.yml").read_text()
TESTS = (ROOT / "deploy/prometheus/alerts_test.yml").read_text()
OPERATING = "docs/OPERATING.md"

_NAME = re.compile(r"\bexecution_logger_\w+")
_PARTS_OF_NAMES = re.compile(r"_(bucket|count|sum|created)$")


def names_of(families: Iterable[Metric]) -> set[str]:
    """As they are written in a query, those of histograms without `_bucket` and the like."""
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """All names, when every part answers and has something to say."""
    logger = ExecutionLogger(make_delivery=MemoryDelivery)
    logger.sync.info("t", "c", "m")
    logger.sync.shutdown()
    names = names_of(ExecutionLoggerCollector(logger).collect())
    names |= names_of(WorkerCollector(WorkerCounters()).collect())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(facts, "open_channel", FakeRedis().open)
        patched.setattr(facts, "measure_queue", lambda *_: QueueLength(1, 1, 1))
        patched.setattr(facts, "workers_online", lambda _: [])
        path = tmp_path_factory.mktemp("tables") / "logs.db"
        make_tables(path)
        names |= names_of(SystemCollector(Settings(database_url=f"sqlite:///{path}")).collect())
    return names


def test_every_metric_of_a_rule_is_exported(exported: set[str]) -> None:
    """A misspelt one would never fire; those of the rules' tests are the same."""
    assert (used := set(_NAME.findall(ALERTS)))
    assert used <= exported
    assert set(_NAME.findall(TESTS)) <= exported


def test_every_rule_leads_to_a_section() -> None:
    """Whoever is woken by it knows where to read on."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    runbooks = re.findall(r"runbook: (\S+)#(\S+)$", ALERTS, re.MULTILINE)
    assert len(alerts) == len(set(alerts)) == len(runbooks) > 15
    for page, anchor in runbooks:
        assert anchor in Document(page).anchors, anchor


def test_every_rule_has_a_severity_and_a_summary() -> None:
    """By which it is routed, and understood."""
    rules = ALERTS.split("- alert: ")[1:]
    for rule in rules:
        assert re.search(r"severity: (warning|critical)\n", rule), rule
        assert re.search(r"summary: \S", rule), rule


@pytest.mark.parametrize("page", [OPERATING, TRANSLATED[OPERATING]])
def test_every_metric_is_documented(exported: set[str], page: str) -> None:
    """In a table's first column, and no other one."""
    rows = re.findall(r"^\| (`execution_logger_[^|]+) \|", Document(page).text, re.MULTILINE)
    named = {name for row in rows for name in _NAME.findall(row)}
    assert named == exported


@pytest.mark.parametrize("page", [OPERATING, TRANSLATED[OPERATING]])
def test_a_metric_that_is_named_exists(exported: set[str], page: str) -> None:
    """Anywhere in the text, and in the outputs that are shown."""
    text = Document(page).text
    named = {_PARTS_OF_NAMES.sub("", name) for name in _NAME.findall(text)}
    others = {"execution_logger_alembic_version"}
    assert named - others <= exported
