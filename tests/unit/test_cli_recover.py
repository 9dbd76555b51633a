"""`execution-logger recover` tells what it has sent, and what it has not."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from execution_logger import Settings
from execution_logger.cli import main
from execution_logger.cli import recover as module
from execution_logger.journal import find_destination
from execution_logger.testing import MemoryDelivery
from journals import DyingProcess


@pytest.fixture
def delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryDelivery:
    """Where `recover` sends to; the journals are in the test's folder."""
    delivery = MemoryDelivery()
    monkeypatch.setenv("EXECUTION_LOGGER_JOURNAL_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(module, "select_delivery", lambda _: lambda: delivery)
    return delivery


def left_behind(count: int, name: str = "dead") -> Path:
    """The folder of a process that is dead."""
    destination = find_destination(Settings.from_environment())
    return DyingProcess(destination.folder, name, to=destination).log(count).die()


@pytest.mark.parametrize("kept", [True, False])
def test_lines_that_are_no_entries_do_not_count_as_sent(delivery: MemoryDelivery, *, kept: bool) -> None:
    """Neither those that are kept aside nor those for which there was no place."""
    folder = left_behind(5)
    path = folder / f"{1:020}.entries"
    lines = path.read_bytes().splitlines()
    lines[1] = lines[3] = b"\0\0\0\xff"
    path.write_bytes(b"\n".join(lines) + b"\n")
    if not kept:
        (folder.parent / "damaged.ndjson").mkdir()
    result = CliRunner().invoke(main, ["recover", "--json"])
    told = json.loads(result.stdout)
    assert (told["sent"], told["unreadable"], len(delivery.entries)) == (3, 2, 3)
    assert result.exit_code == 0


def test_what_is_not_sent_because_of_others_is_said(tmp_path: Path, delivery: MemoryDelivery) -> None:
    """Entries that anybody may have written stay where they are, and those beside them are sent."""
    left_behind(2)
    left_behind(3, "open").chmod(0o777)
    result = CliRunner().invoke(main, ["recover"])
    assert len(delivery.entries) == 2
    assert "2 entries of dead processes were sent, 0 are left." in result.stdout
    assert "open: not used: anybody may write to it (mode 777)" in result.stdout
