"""`execution-logger demo`, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from processes import LocalProcess
from rows import count_rows, fetch
from ui_process import ANSWER_SECONDS
from waiting import wait_until

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli", "demo")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder with a few documents."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "README.md").write_text("# Title\n\nSee [the guide](guide.md) and [nothing](gone.md).\n")
    (folder / "guide.md").write_text("# Guide\n\nHow to use it.\n")
    for number in range(10):
        (folder / f"module_{number}.py").write_text(f"class Thing{number}:\n    '''A thing.'''\n")
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the demonstration makes its temporary folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def run(scratch: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the demonstration to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        check=False,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def sums(output: str) -> dict[str, str]:
    """The table at the end, by its names."""
    names = "log calls|cost of a call|batches|rows stored|lost|duplicates"
    return dict(re.findall(rf"^({names}) {{2,}}(.+)$", output, re.MULTILINE))


def test_without_any_server_every_call_is_a_row(scratch: Path, documents: Path) -> None:
    """A folder is the broker, a file the database; nothing of it is left."""
    done = run(scratch, documents, "--runs", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = sums(done.stdout)
    assert "Files     13 in 3 concurrent runs, below " in done.stdout
    calls = found["log calls"].partition(",")[0]
    assert int(calls) > 40
    assert (found["rows stored"], found["lost"], found["duplicates"]) == (calls, "0", "0")
    assert re.fullmatch(r"median [\d.,]+ µs, mean [\d.,]+ µs, slowest [\d.,]+ µs", found["cost of a call"])
    assert list(scratch.iterdir()) == []
    check_timeline(done.stdout, documents)


def check_timeline(output: str, documents: Path) -> None:
    """A run comes from the database: the planted failure, its retry, and the way before and after it."""
    lines = output.splitlines()
    entries = [line.split(maxsplit=3) for line in lines if re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line)]
    assert [message.split("  {")[0] for _, level, _, message in entries if level == "ERROR"] == [
        "legacy-notes.txt is not UTF-8"
    ]
    assert [who for _, _, who, _ in entries].count("retry") == 2
    assert entries[1][3].startswith("documents started")
    assert entries[2][2:] == ["documents", entries[2][3]]
    assert entries[2][3].startswith("Processing 5 files")
    assert entries[-2][3] == "Processed 5 files"
    assert entries[-1][3].startswith("documents completed")
    assert max(len(line) for line in lines if str(documents) not in line and "Tables" not in line) <= 80


def test_kept_files_can_be_looked_at(scratch: Path, documents: Path) -> None:
    """The database, and what the worker printed."""
    done = run(scratch, documents, "--runs", "2", "--keep")
    (folder,) = scratch.iterdir()
    assert f"Kept      {folder}" in done.stdout
    assert (folder / "logs.db").stat().st_size > 0
    assert "Warm shutdown" in (folder / "worker.log").read_text()


@pytest.mark.parametrize("keep", [False, True])
def test_with_real_servers_they_are_used_and_left_clean(
    scratch: Path, documents: Path, redis_url: str, postgres_url: str, *, keep: bool
) -> None:
    """Tables are made; rows stay only when they are to be kept, and no key of a queue does."""
    options = ["--keep"] if keep else []
    done = run(scratch, documents, "--broker", redis_url, "--database", postgres_url, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Broker    {redis_url}" in done.stdout
    found = sums(done.stdout)
    calls = int(found["log calls"].partition(",")[0])
    assert (found["rows stored"], found["lost"]) == (str(calls), "0")
    assert count_rows(postgres_url) == (calls if keep else 0)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert not [key for key in client.scan_iter() if "demo-" in key]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cleans_up(scratch: Path, documents: Path, number: signal.Signals) -> None:
    """The worker and its folder are gone, and there is no traceback."""
    output = scratch.parent / "output.txt"
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = LocalProcess([*COMMAND, str(documents)], output=output, environment=environment)
    try:
        wait_until(lambda: psutil.Process(process.pid).children(recursive=True)[1:], 20)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait() == 128 + number
    finally:
        process.kill()
    assert not any(worker.is_running() for worker in workers)
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in process.output


def test_its_page_stays_until_ctrl_c(scratch: Path, documents: Path) -> None:
    """With the runs of the demonstration; then nothing of it is left."""
    output = scratch.parent / "output.txt"
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = LocalProcess(
        [*COMMAND, str(documents), "--runs", "3", "--ui"], output=output, environment=environment
    )
    try:
        wait_until(lambda: "The page stays: Ctrl-C ends it." in process.output, 60)
        children = psutil.Process(process.pid).children(recursive=True)
        (url,) = re.findall(
            r"^execution-logger: the runs are at (http://127\.0\.0\.1:\d+/)$",
            output.read_text(),
            re.MULTILINE,
        )
        runs = httpx.get(f"{url}api/runs", timeout=ANSWER_SECONDS).json()["runs"]
        assert [run["state"] for run in runs] == ["done"] * 3
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    finally:
        process.kill()
    assert not any(child.is_running() for child in children)
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in process.output


def test_a_lost_entry_is_an_exit_code(
    scratch: Path, documents: Path, redis_url: str, database_url: str
) -> None:
    """The worker has confirmed all, and not all are there: it says how many, and waits for nothing more."""
    swallow = "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    trigger = """
        CREATE TRIGGER swallow BEFORE INSERT ON execution_logs FOR EACH ROW
        WHEN (NEW.category = 'retry') EXECUTE FUNCTION swallow()
    """
    for statement in (swallow, trigger):
        fetch(database_url, statement)
    done = run(scratch, documents, "--broker", redis_url, "--database", database_url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sums(done.stdout)["lost"] == "2"
    assert "The worker's last lines:" in done.stdout


def test_a_broker_that_is_away_is_one_line(scratch: Path, documents: Path) -> None:
    """Before anything is started; its password is not shown."""
    done = run(scratch, documents, "--broker", "redis://:secret@127.0.0.1:1/0")
    assert done.returncode == 3
    assert re.fullmatch(r"execution-logger: redis://127.0.0.1:1/0: .*refused.*\n", done.stderr)
    assert "secret" not in done.stdout
    assert list(scratch.iterdir()) == []


def test_a_folder_without_documents_is_one_line(scratch: Path) -> None:
    """It says what is looked for."""
    done = run(scratch, scratch)
    assert done.returncode == 3
    assert done.stderr.startswith(f"execution-logger: {scratch}: there are no text files")
