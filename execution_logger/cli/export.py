"""`execution-logger export`: a run as a file."""

import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from execution_logger.cli.database import open_database
from execution_logger.cli.terminal import output_errors
from execution_logger.errors import ExecutionLoggerError
from execution_logger.read.formats import FORMATS, Format
from execution_logger.read.timeline import Timeline
from execution_logger.text import printable

_PAGE_SECONDS = 60.0  # the first one of a table without an index has to be sorted for


class _Shown:
    """The terminal. A CSV for programs keeps every character of a text, and a terminal would obey them."""

    def write(self, piece: bytes) -> None:
        """Show whole lines."""
        lines = piece.decode("utf-8-sig").splitlines()
        click.echo("\n".join(map(printable, lines)))


class ExportError(ExecutionLoggerError):
    """The run cannot be written where it is to go."""


@click.command(context_settings={"show_default": True})
@click.argument("task_id")
@click.option(
    "--format", "name", type=click.Choice(tuple(FORMATS)), default="ndjson", help="How to write it."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the standard output."
)
def command(task_id: str, name: str, output: Path | None) -> None:
    """Write all entries of a run, oldest first, with every field.

    ndjson has an entry on each line, as JSON. csv is for spreadsheets: UTF-8 with a byte order mark,
    the details as JSON; a text that begins like a formula (= + - @) gets an apostrophe in front. Times
    are ISO 8601 in UTC. It is the run as it is when the export begins, of any length: only a few
    hundred entries are in memory at a time.

    FILE is there when all of it is written, and not before; what it held stays if that fails. The exit
    code is 1 then, and when no entry of the run is stored.
    """
    form = FORMATS[name]()
    if output is None:
        written = _export_to_stdout(task_id, form)
    else:
        with _replacing(output) as file:
            written = _export(task_id, form, file)
            _check(written, task_id)
            size_bytes = file.tell() if file.seekable() else 0
        said = f"{written:,} entries of the run {task_id!r}, {size_bytes:,} bytes: {output}"
        click.echo(printable(said), err=True)
    _check(written, task_id)


def _check(written: int, task_id: str) -> None:
    if not written:
        raise ExportError(
            f"no entry of the run {task_id!r} is stored. It may be on its way: execution-logger status"
        )


def _export(task_id: str, form: Format, file: "BinaryIO | _Shown") -> int:
    return asyncio.run(_write(task_id, form, file))


def _export_to_stdout(task_id: str, form: Format) -> int:
    with output_errors():
        stdout = sys.stdout.buffer
        written = _export(task_id, form, _Shown() if stdout.isatty() else stdout)
        stdout.flush()
    return written


async def _write(task_id: str, form: Format, file: "BinaryIO | _Shown") -> int:
    """Write the run, nothing at all when there is none; return how many entries it has."""
    written = 0
    async with (
        open_database("export", _PAGE_SECONDS) as (engine, settings),
        aclosing(Timeline(engine, settings, task_id).pages()) as pages,
    ):
        async for page in pages:
            if not written:
                file.write(form.head())
            file.write(form.body(page))
            written += len(page)
    return written


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block has ended without an error.

    What is no regular file, such as a pipe or a device, is written to as it is.
    """
    path = path.resolve()
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as file:
                yield file
            return
        new = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with new.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error
