"""The journal's disk is full, read-only or swept; the clock is set back."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from integration.faults.cell import Cell
from integration.faults.site import Site
from waiting import let_pass, wait_until


class TestJournal:
    """Hosts whose journal cannot be written: as long as they live nothing is lost."""

    def test_disk_full(self, cell: Cell, site: Site) -> None:
        """A journal of 200 kB on a file system of its own: what does not fit is in memory, and stored."""
        with small_disk(site, size_kilobytes=200):
            for _ in cell.a_few():
                host = site.host("plain", "--count", 5_000, "--rate", 500)
                cell.let_pass_up_to(1)
                host.stop()
            site.check()

    @pytest.mark.long
    def test_disk_full_and_then_free(self, cell: Cell, bare_site: Site) -> None:
        """Somebody makes room: from then on entries survive a kill again."""
        site = bare_site
        with small_disk(site, size_kilobytes=400), site.worker() as worker:
            for _ in cell.a_few():
                filler = site.journal / "filler"
                site.journal.mkdir(exist_ok=True)
                fill(filler.parent, filler.name)
                host = site.host("plain", "--count", 500, "--rate", 100)
                wait_until(lambda: site.rows() >= 500, 30)
                filler.unlink()
                # What is in memory only is stored before the kill; what comes after it is on disk again.
                let_pass(2)
                wait_until(site.journals, 30)
                worker.pause()
                let_pass(0.5)
                host.kill()
                worker.resume()
            site.host("idle")
            site.check()

    def test_files_limited(self, cell: Cell, site: Site) -> None:
        """No file may be longer than 200 kB (RLIMIT_FSIZE): writes fail in the middle of a line."""
        for _ in cell.a_few():
            host = site.host("limited", "--count", 5_000, "--rate", 500)
            cell.let_pass_up_to(1)
            host.stop()
        site.check()

    def test_read_only(self, cell: Cell, site: Site) -> None:
        """A directory that cannot be written from the start: one warning, and all is stored."""
        with read_only_journal(site):
            for _ in cell.a_few():
                host = site.host("plain", "--count", 500, "--rate", 200)
                cell.let_pass_up_to(1)
                host.stop()
                assert host.output.count("the journal takes no entries") == 1, host.output
            site.check()

    def test_deleted_while_running(self, cell: Cell, site: Site) -> None:
        """Somebody sweeps the directory away again and again, while the host lives and logs."""
        host = site.host("plain", "--count", 1_000, "--rate", 500)
        for _ in cell.repetitions():
            cell.let_pass_up_to(1)
            shutil.rmtree(site.journal, ignore_errors=True)
        host.stop()
        site.check()

    def test_deleted_and_then_killed(self, cell: Cell, frail_redis_site: Site) -> None:
        """Swept away with the broker gone: written anew within seconds, so that a kill loses nothing."""
        site = frail_redis_site
        site.redis.stop()
        for _ in cell.a_few():
            host = site.host("plain", "--count", 1_000, "--rate", 100)
            (own,) = (folder for folder in site.journals() if f"-{host.pid}-" in folder.name)
            shutil.rmtree(own)
            wait_until((own / "lock").exists, 20)
            # From the lock to the last segment it takes a moment.
            let_pass(1)
            host.kill()
        site.redis.start()
        with site.worker():
            site.host("idle")
            site.check()

    def test_deleted_beyond_the_window(self, cell: Cell, frail_redis_site: Site) -> None:
        """Swept away while more waits than memory holds of it: as long as the host lives nothing is lost."""
        site = frail_redis_site
        site.redis.stop()
        for _ in cell.a_few():
            host = site.host("plain", "--count", 12_000, "--rate", 500)
            site.wait_for_calls(12_000, 60)
            shutil.rmtree(site.journal)
            site.wait_for_calls(1_000, 30)
            site.redis.start()
            with site.worker():
                host.stop()
                site.host("idle").stop()
                site.check()
            site.redis.stop()

    def test_few_descriptors(self, cell: Cell, frail_redis_site: Site) -> None:
        """At most 64 open files, and over a hundred on the disk: after a kill the next one sends them."""
        site = frail_redis_site
        site.redis.stop()
        for _ in cell.a_few():
            host = site.host("few_descriptors", "--rate", 1_000)
            site.wait_for_calls(6_000, 60)
            host.kill()
            assert "the journal takes no entries" not in host.output
            assert sum(1 for folder in site.journals() for _ in folder.iterdir()) > 100
            site.redis.start()
            with site.worker():
                heir = site.host("few_descriptors", "--rate", 100)
                wait_until(lambda: site.rows() >= 6_000, 60)
                heir.stop()
                assert "Too many open files" not in heir.output
                site.check()
            site.redis.stop()

    def test_no_home(self, cell: Cell, site: Site) -> None:
        """A user without HOME and passwd entry: one warning, and a kill loses nothing either."""
        variables = {"EXECUTION_LOGGER_JOURNAL_DIRECTORY": "", "TMPDIR": str(site.folder)}
        for _ in cell.repetitions(2):
            host = site.host("homeless", "--count", 500, "--rate", 200, **variables)
            cell.let_pass_up_to(1)
            host.kill()
            # None, where it was killed before its first call.
            assert host.output.count("set EXECUTION_LOGGER_JOURNAL_DIRECTORY") <= 1, host.output
        left = site.returned()
        heir = site.host("homeless", "--count", 1, "--rate", 1, **variables)
        wait_until(lambda: site.rows() > left, 60)
        heir.stop()
        site.check()
        assert heir.output.count("set EXECUTION_LOGGER_JOURNAL_DIRECTORY") == 1, heir.output


class TestClock:
    """The wall clock of the host is set back by an hour, fifty times a second."""

    def test_set_back(self, cell: Cell, site: Site) -> None:
        """Rows are in the order of the calls all the same, also those that another process ships."""
        for _ in cell.repetitions(2):
            host = site.host("clock")
            cell.let_pass_up_to(1.5)
            host.kill()
        site.host("idle")
        site.check()


@contextmanager
def small_disk(site: Site, size_kilobytes: int) -> Iterator[None]:
    """A file system of a certain size for the journal; takes root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root; test_files_limited needs none")
    site.journal.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size_kilobytes}k", "tmpfs", str(site.journal))
    try:
        yield
    finally:
        for host in site.hosts:
            host.kill()
        subprocess.run(["umount", str(site.journal)], check=True)


@contextmanager
def read_only_journal(site: Site) -> Iterator[None]:
    """A directory that takes no files: for root, who may write anywhere, a read-only file system."""
    site.journal.mkdir()
    if os.geteuid() != 0:
        site.journal.chmod(0o500)
        yield
        site.journal.chmod(0o700)
        return
    mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(site.journal))
    try:
        yield
    finally:
        subprocess.run(["umount", str(site.journal)], check=True)


def mount(*arguments: str) -> None:
    """Mount a file system, or skip the test where that is not allowed (most containers)."""
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount is not possible here: {done.stderr.strip()}")


def fill(folder: "os.PathLike[str]", name: str) -> None:
    """Fill a file system to the last byte with a file of this name."""
    with open(os.path.join(folder, name), "wb", buffering=0) as file:  # noqa: PTH118, PTH123
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return
