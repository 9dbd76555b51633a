"""Where journals are, and which of them a process may ship."""

from pathlib import Path
from typing import Any

import pytest

from execution_logger import Settings
from execution_logger.journal import Adoption, Destination, find_destination
from journals import DyingProcess

BROKER = "redis://:secret@broker/0"
DATABASE = "postgresql://user:secret@database/logs"


def destination(folder: Path, broker: str | None = None, **settings: Any) -> Destination:
    """The destination of these settings, in this folder."""
    return find_destination(Settings(journal_directory=str(folder), **settings), broker)


def test_it_says_where_to_without_passwords(tmp_path: Path) -> None:
    """For people who look into the folder."""
    assert destination(tmp_path, broker_url=BROKER).description == "redis://broker/0 logs"
    direct = destination(tmp_path, celery_enabled=False, database_url=DATABASE)
    assert direct.description == "postgresql://database/logs execution_logs"


def test_a_host_that_is_switched_ships_what_it_had_left(tmp_path: Path) -> None:
    """Both ways of one set of settings are each other's."""
    on = destination(tmp_path, broker_url=BROKER, database_url=DATABASE)
    off = destination(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=False)
    assert on.folder != off.folder
    assert on.folders == (on.folder, off.folder)
    assert off.folders == (off.folder, on.folder)


def test_a_database_that_is_not_named_is_no_other_way(tmp_path: Path) -> None:
    """Most hosts know their broker only."""
    on = destination(tmp_path, broker_url=BROKER)
    assert on.folders == (on.folder,)


def test_the_default_broker_may_be_another_hosts(tmp_path: Path) -> None:
    """Who has never named one has left nothing there; what lies there belongs into another database."""
    off = destination(tmp_path, database_url=DATABASE, celery_enabled=False)
    assert off.folders == (off.folder,)
    broker = "redis://localhost:6379/0"
    of_application = destination(tmp_path, broker, database_url=DATABASE, celery_enabled=False)
    assert len(of_application.folders) == 2


@pytest.mark.parametrize("is_on", [True, False])
def test_what_was_left_before_the_switch_is_adopted(tmp_path: Path, *, is_on: bool) -> None:
    """By the first process that runs the other way."""
    ways = [
        destination(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=way)
        for way in (is_on, not is_on)
    ]
    DyingProcess(tmp_path, to=ways[0]).log(3).die()
    adoption = Adoption(ways[1], "living", Settings())
    (journal,) = adoption.look()
    assert (journal.process, journal.pending) == ("dead", 3)
    adoption.close()


def test_journals_of_the_living_are_left_alone(tmp_path: Path) -> None:
    """A host that is not switched yet ships for itself."""
    on = destination(tmp_path, broker_url=BROKER, database_url=DATABASE)
    off = destination(tmp_path, broker_url=BROKER, database_url=DATABASE, celery_enabled=False)
    living = DyingProcess(tmp_path, "living", to=on).log(1)
    adoption = Adoption(off, "other", Settings())
    assert adoption.look() == []
    adoption.close()
    living.die()
