"""Input that no program of ours has written: damaged journals, forged messages, hostile values."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from anything import ODD_NUMBERS, Anything
from batches import batch, encoded
from execution_logger import ExecutionLogger, LogCategory, Settings
from forgery import Forger
from integration.faults.cell import Cell
from integration.faults.damage import HARMS
from integration.faults.site import Site
from messages import envelope
from rows import upgrade_database
from sqlite_site import SqliteSite
from waiting import wait_until

ENTRIES_PER_JOURNAL = 3_000
SMALL_SEGMENTS = {"EXECUTION_LOGGER_JOURNAL_MAX_BYTES": "1048576"}
"""A journal of so many entries has three segments then."""

SHORT = ["flip", "noise"]
LONG = [pytest.param(harm, marks=pytest.mark.long) for harm in HARMS if harm not in SHORT]


class TestDamage:
    """Files of a journal that are no longer what its process has written."""

    @pytest.mark.parametrize("harm", [*SHORT, *LONG])
    def test_segments(self, cell: Cell, frail_redis_site: Site, harm: str) -> None:
        """Every line that is still whole is a row; all others are kept aside, and no entry is altered."""
        site = frail_redis_site
        site.redis.stop()
        words = ("--count", ENTRIES_PER_JOURNAL, "--then", "wait")
        hosts = [site.host("plain", *words, **SMALL_SEGMENTS) for _ in cell.repetitions()]
        wait_until(lambda: site.returned() == ENTRIES_PER_JOURNAL * len(hosts), 30)
        for host in hosts:
            host.kill()
        originals = {entry["id"]: entry for entry in map(json.loads, entries_of(site))}
        whole, doubtful = harm_segments(cell, site, harm)
        site.redis.start()
        with site.worker():
            adopter = site.host("idle")
            wait_until(lambda: not left_folders(site, adopter.pid), 60, message=lambda: adopter.output)
            wait_until(lambda: whole <= stored(site).keys(), 30, message=lambda: str(len(whole)))
            wait_until(lambda: site.queued() + site.in_flight() == 0, 30)
        rows = stored(site)
        assert {number: rows[number] for number in whole} == dict.fromkeys(whole, 1)
        aside = b"".join(file.read_bytes() for file in site.journal.rglob("damaged.ndjson")).split(b"\n")
        dead = len(site.dead_letters())
        lost = [line for line in doubtful if line not in aside and line_id(line) not in rows]
        assert len(lost) <= dead, lost[:3]
        check_unaltered(site, originals)
        assert "internal error" not in adopter.output
        cell.figures.calls += len(whole)
        cell.figures.rows += sum(rows[number] for number in whole)

    def test_marks_and_foreign_files(self, cell: Cell, bare_site: Site) -> None:
        """The notes of what was sent are damaged, and files lie about that nobody knows."""
        site = bare_site
        with site.worker() as worker:
            for _ in cell.repetitions():
                host = site.host("plain", "--count", 3_000, "--rate", 500)
                wait_until(lambda: site.rows() > 1_000, 20)
                worker.pause()
                cell.let_pass_up_to(0.5)
                host.kill()
                for marks in site.journal.rglob("marks"):
                    harm = cell.random.choice(list(HARMS.values()))
                    if marks.stat().st_size:
                        marks.write_bytes(harm(marks.read_bytes(), cell.random))
                drop_foreign_files(site)
                worker.resume()
                site.host("idle")
            site.check()


class TestForgedMessages:
    """What somebody with access to Redis can do to a worker."""

    @pytest.mark.long  # test_forged_messages.py does it with messages of its own between them
    def test_between_real_ones(self, cell: Cell, bare_site: Site) -> None:
        """Thousands of forged messages on the queue: the worker goes on, and every real entry is a row."""
        site = bare_site
        count = 10_000 if cell.is_long else 300
        cell.figures.repetitions = count
        settings = Settings(broker_url=site.broker_url)
        with site.client() as client:
            valid = envelope(client, settings, str(uuid4()), batch(*(encoded() for _ in range(5))))
            host = site.host("plain", "--count", 100, "--rate", 50)
            wait_until(lambda: site.queued() > 2, 20)
            for forged in Forger(valid, cell.random.randrange(2**32)).messages(count):
                client.lpush("logs", forged)
        with site.worker(supervised=True):
            wait_until(lambda: site.queued() + site.in_flight() == 0, 120 if cell.is_long else 50)
            host.stop()
            site.host("idle")
            site.check_rows(90, only_streams=True)


class TestHostileValues:
    """Anything at all as an argument of a call, carried through to rows."""

    def test_on_postgresql(self, cell: Cell, site: Site) -> None:
        """Each call is a row with what the call returned."""
        settings = Settings(broker_url=site.broker_url, journal_directory=str(site.journal))
        entries = record_anything(cell, settings)
        rows = {str(row["id"]): row for row in site.fetch("SELECT * FROM execution_logs")}
        compare(cell, entries, rows)
        assert site.dead_letters() == []

    def test_on_sqlite(self, cell: Cell, bare_site: Site, tmp_path: Path) -> None:
        """The same on SQLite."""
        site = bare_site
        database = SqliteSite(tmp_path / "rows.db")
        upgrade_database(database.settings.database_url or "")
        settings = Settings(broker_url=site.broker_url, journal_directory=str(site.journal))
        worker = site.worker()
        worker.environment["DATABASE_URL"] = database.settings.database_url or ""
        with worker:
            entries = record_anything(cell, settings)
            found = {row["id"]: row for row in database.rows()}
            rows = {number: {**row, "details": decoded(row["details"])} for number, row in found.items()}
            compare(cell, entries, rows)
            assert database.dead() == []


def harm_segments(cell: Cell, site: Site, harm: str) -> tuple[set[str], list[bytes]]:
    """Damage every segment; the ids of the entries whose lines are whole, and the other complete lines."""
    whole: set[str] = set()
    doubtful: list[bytes] = []
    for segment in segments(site):
        data = segment.read_bytes()
        harmed = HARMS[harm](data, cell.random)
        segment.write_bytes(harmed)
        originals = set(data.split(b"\n"))
        for line in harmed.split(b"\n")[:-1]:
            if line in originals and line:
                whole.add(json.loads(line.partition(b"\t")[0])["id"])
            else:
                doubtful.append(line)
    return whole, doubtful


def segments(site: Site) -> Iterator[Path]:
    """The files with entries."""
    for file in sorted(site.journal.rglob("*.entries")):
        if file.name[0].isdigit() and file.stat().st_size:
            yield file


def entries_of(site: Site) -> Iterator[bytes]:
    """What is in them."""
    for segment in segments(site):
        for line in segment.read_bytes().splitlines():
            yield line.partition(b"\t")[0]


def check_unaltered(site: Site, originals: dict[str, dict[str, Any]]) -> None:
    """Fail unless each row, but those of who adopts, holds what was recorded under its id."""
    for row in site.fetch("SELECT *, id::text AS id FROM execution_logs WHERE task_id NOT LIKE 'idle.%'"):
        original = originals[row["id"]]
        for name in ("task_id", "level", "category", "message", "step", "agent_name", "duration_ms"):
            assert row[name] == original.get(name), name
        assert decoded(json.dumps(row["details"])) == decoded(json.dumps(original.get("details")))


def left_folders(site: Site, living: int) -> list[Path]:
    """The journals of processes that are gone."""
    return [folder for folder in site.journals() if f"-{living}-" not in folder.name]


def stored(site: Site) -> dict[str, int]:
    """How many rows each id has."""
    rows = site.fetch("SELECT id::text, count(*) AS n FROM execution_logs GROUP BY id")
    return {row["id"]: row["n"] for row in rows}


def line_id(line: bytes) -> str | None:
    """The id in a line of a journal, as the database writes it, if it is an object with one."""
    try:
        return str(UUID(json.loads(line.partition(b"\t")[0])["id"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def drop_foreign_files(site: Site) -> None:
    """Leave files and folders where journals are that no journal has."""
    (destination,) = site.journal.iterdir()
    for folder in [destination, *site.journals()]:
        (folder / "notes.txt").write_text("foreign")
        (folder / "abc.entries").write_bytes(b"foreign\n")
        (folder / ".hidden").write_bytes(bytes(10))
        (folder / f"{10**25}.entries").write_bytes(b"{}\n")
    (destination / "a folder").mkdir(exist_ok=True)
    (destination / "00000000000000000001.entries").mkdir(exist_ok=True)
    (destination / "dangling").unlink(missing_ok=True)
    (destination / "dangling").symlink_to("nowhere")


def record_anything(cell: Cell, settings: Settings) -> list[Any]:
    """Make calls with anything as their arguments; the entries, all of which are stored by then."""
    count = 5_000 if cell.is_long else 200
    cell.figures.repetitions = count
    anything = Anything(cell.random.randrange(2**32))
    logger = ExecutionLogger(settings)
    entries = []
    for _ in range(count):
        texts = {name: anything.text() for name in ("step", "agent_name", "roadmap_id", "concept_id")}
        details = anything.details()
        duration_ms: Any = cell.random.choice(ODD_NUMBERS)
        entries.append(
            logger.sync.info(
                anything.text(),
                LogCategory.TOOL,
                anything.text(),
                details=details,
                duration_ms=duration_ms,
                **texts,
            )
        )
    report = logger.sync.flush(60, until="stored")
    logger.sync.shutdown(10)
    assert report.complete, str(report)
    return entries


def compare(cell: Cell, entries: list[Any], rows: dict[str, dict[str, Any]]) -> None:
    """Fail unless each entry is a row that holds the same."""
    cell.figures.calls, cell.figures.rows = len(entries), len(rows)
    cell.figures.lost = len({entry.id for entry in entries} - rows.keys())
    assert (cell.figures.lost, len(rows)) == (0, len(entries))
    for entry in entries:
        row = rows[entry.id]
        for name in row.keys() - {"id", "details", "created_at"}:
            assert row[name] == getattr(entry, name), name
        # Without pytest's explanation, which takes gigabytes for large values that differ.
        is_same = decoded(json.dumps(row["details"])) == decoded(json.dumps(entry.details))
        assert is_same, f"{row['details']!r:.2000}\n{entry.details!r:.2000}"


def decoded(text: str | None) -> Any:
    """What JSON holds, with numbers as floats: databases write some of them another way."""
    return None if text is None else json.loads(text, parse_int=float)
