"""The Flask extension, in real applications of Flask's; no server."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from documents import Document
from execution_logger import ExecutionLogger, LogEntry, Settings, SettingsError
from execution_logger.api.context import innermost, not_left
from execution_logger.integrations.flask import FlaskLogger
from execution_logger.testing import capture_entries

logger = ExecutionLogger(Settings(language="en"))


@pytest.fixture
def entries() -> Iterator[list[LogEntry]]:
    """What is recorded in the test; no context is left behind by it."""
    with capture_entries(logger) as captured:
        yield captured
    assert not_left(innermost.get()) is None


def make_app(**options: Any) -> Flask:
    """An application with a view that logs, and one that fails."""
    app = Flask("host")

    @app.get("/runs/<number>")
    def run(number: str) -> str:
        logger.sync.info(None, "api", "asked")
        return number

    @app.get("/broken")
    def broken() -> str:
        raise ValueError("no")

    FlaskLogger(app, logger=logger, **options)
    return app


def test_a_request_fills_in_its_fields(entries: list[LogEntry]) -> None:
    """Without the query, which may hold secrets."""
    make_app().test_client().get("/runs/7?key=secret", headers={"X-Request-ID": "r-1"})
    assert [entry.details for entry in entries] == [{"method": "GET", "path": "/runs/7", "request_id": "r-1"}]


def test_a_request_that_is_an_operation(entries: list[LogEntry]) -> None:
    """Of a run that a header names; the end has the status and the route."""
    app = make_app(operation=True, task_id="X-Run-ID")
    app.test_client().get("/runs/7", headers={"X-Run-ID": "run-1"})
    assert [entry.message for entry in entries] == ["GET /runs/7 started", "asked", "GET /runs/7 completed"]
    assert {entry.task_id for entry in entries} == {"run-1"}
    assert entries[1].parent_id == entries[0].operation_id
    details = entries[2].details or {}
    assert (details["status"], details["route"]) == (200, "/runs/<number>")


def test_a_view_that_fails(entries: list[LogEntry]) -> None:
    """The operation has failed; the client has Flask's answer."""
    assert make_app(operation=True).test_client().get("/broken").status_code == 500
    assert [entry.message for entry in entries] == ["GET /broken started", "GET /broken failed: no"]


def test_a_request_that_is_answered_before(entries: list[LogEntry]) -> None:
    """By a function of the host's that comes first."""
    app = Flask("host")
    app.before_request(lambda: "no")
    FlaskLogger(app, logger=logger, operation=True, task_id=lambda request: request.path)
    assert app.test_client().get("/runs/7").data == b"no"
    assert entries == []


def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the first request."""
    monkeypatch.setenv("EXECUTION_LOGGER_BATCH_SIZE", "many")
    with pytest.raises(SettingsError, match="EXECUTION_LOGGER_BATCH_SIZE"):
        FlaskLogger(Flask("host"), logger=ExecutionLogger())


def test_the_example_of_the_documentation() -> None:
    """The request's entries are in the run that its header names."""
    with capture_entries() as entries:
        app = Document("docs/integrations/flask.md").run_example("flask-extension")["app"]
        app.test_client().get("/reports/7", headers={"X-Run-ID": "run-1"})
    assert [entry.message for entry in entries] == ["GET /reports/7 开始", "asked", "GET /reports/7 完成"]
    assert {entry.task_id for entry in entries} == {"run-1"}
