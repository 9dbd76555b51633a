"""`execution-logger doctor`: what it prints, and its exit codes; the integration tests have real servers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from execution_logger.cli import doctor as module
from execution_logger.cli import main
from execution_logger.operate.doctor import Finding, Probe
from execution_logger.operate.doctor.finding import error, ok, warning

FINE = ok("broker.server", "it answers")
ODD = warning("broker.eviction", "the policy is odd", "change it")
BAD = error("database.table", "there is no table", "make one")


def run(*options: str, **environment: str) -> Result:
    """The outcome of the command."""
    return CliRunner().invoke(main, ["doctor", *options], env=environment)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the examination finds; nothing is examined."""
    findings: list[Finding] = []

    def examine(subject: object, skip: Sequence[str]) -> list[Finding]:
        return [finding for finding in findings if finding.area not in skip]

    monkeypatch.setattr(module, "examine", examine)
    return findings


@pytest.mark.parametrize(
    ("findings", "options", "exit_code"),
    [
        ([FINE], ["--strict"], 0),
        ([FINE, ODD], [], 0),
        ([FINE, ODD], ["--strict"], 1),
        ([ODD, BAD], [], 1),
        ([ODD, BAD], ["--skip", "database"], 0),
        ([ODD, BAD], ["--skip", "database", "--skip", "broker", "--strict"], 0),
    ],
)
def test_the_exit_code_is_that_of_the_worst(
    found: list[Finding], findings: list[Finding], options: list[str], exit_code: int
) -> None:
    """Warnings count only when they are to."""
    found += findings
    assert run(*options).exit_code == exit_code
    assert run(*options, "--json").exit_code == exit_code


def test_people_read_what_is_wrong_and_what_to_do(found: list[Finding]) -> None:
    """Line by line, with a sum."""
    found += [FINE, ODD, BAD]
    lines = [line.strip() for line in run().stdout.splitlines()]
    for line in ("the policy is odd", "-> change it", "there is no table", "-> make one"):
        assert any(shown.endswith(line) for shown in lines)
    assert any(line.startswith("1 error and 1 warning, after ") for line in lines)
    found.clear()
    assert "Nothing is wrong, after " in run().stdout


def test_markup_in_a_name_is_shown_as_it_is(found: list[Finding]) -> None:
    """Redis' and the database's words may hold brackets."""
    found.append(warning("broker.age", "queue [red]logs[/red]", "look at [it]"))
    assert "queue [red]logs[/red]" in run().stdout


def test_what_others_say_does_not_steer_the_terminal(found: list[Finding]) -> None:
    """A worker's name comes from whoever can write to the broker."""
    found.append(warning("workers.names", "worker \x1b[2J", "look"))
    assert "worker \\x1b[2J" in run().stdout


def test_programs_read_json(found: list[Finding]) -> None:
    """The level, and each finding whole."""
    found += [FINE, ODD]
    facts = json.loads(run("--json").stdout)
    assert facts["level"] == "warning"
    assert facts["findings"][1] == {
        "name": "broker.eviction", "level": "warning", "what": "the policy is odd", "advice": "change it",
    }  # fmt: skip
    assert "legs" not in facts


def test_the_probe_is_sent_when_it_is_asked_for(
    found: list[Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its legs; what it finds counts."""
    sent: list[float] = []

    def send_probe(settings: object, timeout_seconds: float) -> Probe:
        sent.append(timeout_seconds)
        return Probe({"queue": 0.25}, [error("probe.queue", "it waits", "start workers")])

    monkeypatch.setattr(module, "send_probe", send_probe)
    assert run().exit_code == 0
    result = run("--end-to-end", "--timeout", "3", "--json")
    facts = json.loads(result.stdout)
    assert (result.exit_code, sent, facts["legs"]) == (1, [3.0], {"queue": 0.25})
    assert facts["findings"][-1]["name"] == "probe.queue"


@pytest.mark.parametrize(
    "name", ["broker.connection", "broker.commands", "workers.online", "database.connection"]
)
def test_no_probe_is_sent_to_a_server_that_is_away(found: list[Finding], name: str) -> None:
    """It would wait for its timeout, and arrive when nobody looks for it any more."""
    found.append(error(name, "it is away", "start it"))
    facts = json.loads(run("--end-to-end", "--json").stdout)
    assert facts["legs"] == {}
    assert facts["findings"][-1]["name"] == "probe.delivery"
    assert f"see what is said of the {name.partition('.')[0]}" in facts["findings"][-1]["what"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_wrong_settings_are_the_finding(options: list[str]) -> None:
    """Nothing is asked; misspelt variables are named as well; the exit code is that of wrong usage."""
    result = run(
        *options,
        EXECUTION_LOGGER_BATCH_SIZE="many",
        EXECUTION_LOGGER_QUEU="x",
        CELERY_BROKER_URL="nope://s3cret",
    )
    assert result.exit_code == 2
    assert "EXECUTION_LOGGER_BATCH_SIZE='many': must be a whole number" in result.stdout
    assert "EXECUTION_LOGGER_QUEU is set, and there is no such setting" in result.stdout
    assert "s3cret" not in result.stdout


@pytest.mark.parametrize("url", ["sentinel://127.0.0.1:1/0", "redis://127.0.0.1:1/0?s3cret=1"])
def test_a_broker_url_that_cannot_be_used_is_a_wrong_setting(url: str) -> None:
    """It is only found once it is used."""
    result = run("--json", CELERY_BROKER_URL=url)
    wrong = [each["name"] for each in json.loads(result.stdout)["findings"] if each["level"] == "error"]
    assert (result.exit_code, wrong) == (2, ["broker.settings"])
    assert "cret" not in result.output


@pytest.mark.parametrize("options", [["--skip", "nothing"], ["--timeout", "0"], ["--nope"]])
def test_wrong_options_are_wrong_usage(options: list[str]) -> None:
    """As for all commands."""
    assert run(*options).exit_code == 2


def examined(environment: dict[str, Any], *options: str) -> dict[str, str]:
    """What is really found in an environment without servers: names and levels."""
    facts = json.loads(run("--json", *options, **environment).stdout)
    return {each["name"]: each["level"] for each in facts["findings"]}


def test_without_celery_nothing_of_it_is_asked(tmp_path: Path) -> None:
    """A SQLite file, made, and then without its tables."""
    environment = {"CELERY_ENABLED": "false", "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}"}
    assert examined(environment)["database.table"] == "error"
    assert CliRunner().invoke(main, ["db", "upgrade"], env=environment).exit_code == 0
    found = examined(environment, "--end-to-end")
    assert set(found.values()) == {"ok"}
    assert {name.partition(".")[0] for name in found} == {"settings", "journal", "database", "probe"}


def test_a_folder_as_the_broker_is_for_trying_out(tmp_path: Path) -> None:
    """It works, with a warning; without a worker nothing is sent, unless that is wished."""
    environment = {
        "CELERY_BROKER_URL": f"embedded://{tmp_path / 'broker'}",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'logs.db'}",
    }
    assert CliRunner().invoke(main, ["db", "upgrade"], env=environment).exit_code == 0
    wrong = {"settings.broker": "warning", "workers.online": "error", "probe.delivery": "error"}
    assert not_ok(examined(environment, "--end-to-end")) == wrong
    # The shortest time in which this machine delivers is taken: all of it is waited.
    for seconds in ("0.3", "3", "30"):
        found = examined(environment, "--end-to-end", "--skip", "workers", "--timeout", seconds)
        if "probe.worker" in found:
            break
    assert not_ok(found) == {"settings.broker": "warning", "probe.worker": "error"}


def not_ok(found: dict[str, str]) -> dict[str, str]:
    """What is wrong."""
    return {name: level for name, level in found.items() if level != "ok"}
