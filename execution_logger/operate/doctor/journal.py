"""The journal: whether this user's processes can keep entries on this machine's disk, and what lies there."""

import getpass
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from execution_logger.journal import find_destination
from execution_logger.journal.directory import state_directory
from execution_logger.journal.survey import DestinationSummary, refused, survey
from execution_logger.operate.doctor.finding import Finding, Subject, error, ok, warning
from execution_logger.settings import Settings

NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
     "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs")
)  # fmt: skip
"""Whose locks cannot be relied on, or whose writes wait for the network."""

VOLATILE = frozenset(("overlay", "ramfs", "tmpfs"))
"""Gone with the machine's or the container's end."""

_MOUNTS = Path("/proc/self/mounts")


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """The kind of the file system that holds `folder`, as the kernel calls it; "" where it does not tell."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        place = Path(point.replace("\\040", " "))
        # The last one of a place lies on top.
        if folder.resolve().is_relative_to(place) and len(place.parts) >= longest:
            found, longest = kind, len(place.parts)
    return found


_PROBE_BYTES = 65_536
_FULL_BYTES = 64 * 1_048_576
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DIRECTORY = "EXECUTION_LOGGER_JOURNAL_DIRECTORY"


def examine_journal(subject: Subject) -> Iterator[Finding]:
    """Look at the directory as a host's process of this user would use it."""
    settings = subject.settings
    if not settings.journal:
        yield ok("journal.directory", "EXECUTION_LOGGER_JOURNAL=false: hosts keep entries in memory only")
        return
    directory = state_directory(settings)
    problem = unwritable(directory)
    if problem:
        yield error(
            "journal.directory",
            f"{_user()} cannot keep a journal in {directory}: {problem}; entries would be in memory only",
            f"set {_DIRECTORY} to a folder of the host's user on a local disk",
        )
        return
    yield ok("journal.directory", f"{directory} can be written by {_user()}")
    yield from _space(directory, settings)
    destinations = list(survey(directory))
    yield from _place(directory, is_used=any(each.journals for each in destinations))
    yield from _modes(directory)
    yield from _refused(directory)
    yield from left_over(destinations, find_destination(settings).folder)


def unwritable(directory: Path) -> str | None:
    """Why a process could not keep a journal there, or make the folder; None when it can."""
    try:
        existing = next(path for path in (directory, *directory.parents) if path.exists())
        if not existing.is_dir():
            return f"{existing} is no folder"
        if existing != directory:
            # Nothing is made: its owner would be who runs the doctor, not who runs the host.
            return None if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written"
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as problem:
        return problem.strerror or str(problem)
    return None


def left_over(destinations: list[DestinationSummary], own: Path) -> Iterator[Finding]:
    """What dead processes have left and nobody sends; and lines that are no entries any more."""
    for each in destinations:
        entries = sum(journal.entries for journal in each.journals if not journal.is_alive)
        # A living process of the same destination sends it within seconds.
        if entries and not any(journal.is_alive for journal in each.journals):
            is_own = each.folder == own
            yield warning(
                "journal.left_over",
                f"dead processes have left {entries:,} entries for {each.description or each.folder.name}",
                "execution-logger recover"
                + ("" if is_own else f", with the settings of that destination; or delete {each.folder}"),
            )
        if each.damaged_lines:
            yield warning(
                "journal.damage",
                f"{each.damaged_lines:,} lines of journals in {each.folder} were no entries any more",
                "look for the disk's errors (dmesg); read damaged.ndjson there, then delete it",
            )


def _refused(directory: Path) -> Iterator[Finding]:
    """What others have made there, or may write to; `recover` passes it by as well."""
    problems = list(refused(directory))
    if problems:
        more = f"; and {len(problems) - 1:,} more" if len(problems) > 1 else ""
        first = problems[0]
        yield warning(
            "journal.refused",
            f"what is in {first.filename} is neither sent nor used: {first.strerror}{more}",
            "if it is this user's: chown and chmod go-w it, put the folder in the place of a link, and run "
            "execution-logger recover; if not, delete it, and let nobody else write there",
        )


def _space(directory: Path, settings: Settings) -> Iterator[Finding]:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free, budget = shutil.disk_usage(existing).free, settings.journal_max_bytes
    if free < budget:
        yield (error if free < _FULL_BYTES else warning)(
            "journal.space",
            f"{existing} has {free / 1e6:,.0f} MB free, and a process may keep {budget / 1e6:,.0f} MB there",
            "make room, name another disk, or lower EXECUTION_LOGGER_JOURNAL_MAX_BYTES",
        )


def _place(directory: Path, *, is_used: bool) -> Iterator[Finding]:
    kind = file_system(directory)
    if kind in NETWORK:
        yield warning(
            "journal.place",
            f"{directory} is on a network file system ({kind}), whose locks cannot be relied on",
            f"set {_DIRECTORY} to a folder on a local disk",
        )
    elif kind in VOLATILE and is_used:
        yield warning(
            "journal.place",
            f"{directory} is on {kind}: what a killed host has left ends with the container or the machine",
            f"put it on a volume or a disk, and set {_DIRECTORY}",
        )


def _modes(directory: Path) -> Iterator[Finding]:
    """Journals hold what the log holds; systemd and others make the directory itself readable by all."""
    if os.name != "posix" or not directory.is_dir():
        return
    mode = _mode(directory)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        what = f"anybody may write to {directory} (mode {mode:o})"
        yield warning("journal.modes", what, f"chmod 700 {directory}")
    # Behind a private directory nobody comes to the others.
    folders = sorted(path for path in directory.iterdir() if path.is_dir()) if mode & _OTHERS else []
    for folder in (path for path in folders if _mode(path) & _OTHERS):
        what = f"other users of this machine can read {folder} (mode {_mode(folder):o})"
        yield warning("journal.modes", what, f"chmod -R go-rwx {folder}")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        return "this user"
