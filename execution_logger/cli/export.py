"""`execution-logger export`: a run, or any entries, as a file."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from execution_logger.cli.db import NothingStoredError, located, open_database, to_only
from execution_logger.cli.options import filters
from execution_logger.cli.terminal import output_errors
from execution_logger.errors import ExecutionLoggerError
from execution_logger.read.formats import FORMATS, Format
from execution_logger.read.timeline import ALL, Only
from execution_logger.text import printable

_PAGE_SECONDS = 60.0  # the first one of a table without an index has to be sorted for


class _Shown:
    """The terminal. A CSV for programs keeps every character of a text, and a terminal would obey them."""

    def write(self, piece: bytes) -> None:
        """Show whole lines."""
        lines = piece.decode("utf-8-sig").splitlines()
        click.echo("\n".join(map(printable, lines)))


class ExportError(ExecutionLoggerError):
    """What was asked for cannot be written where it is to go."""


@click.command(context_settings={"show_default": True})
@click.argument("task_id", required=False)
@filters
@click.option(
    "--format", "name", type=click.Choice(tuple(FORMATS)), default="ndjson", help="How to write it."
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the standard output."
)
def command(task_id: str | None, name: str, output: Path | None, **wanted: Any) -> None:
    """Write entries, oldest first, with every field.

    They are those of the run TASK_ID, or of all runs without one; with --operation alone, of its run.

    ndjson has an entry on each line, as JSON. csv is for spreadsheets: UTF-8 with a byte order mark,
    the details as JSON; a text that begins like a formula (= + - @) gets an apostrophe in front. Times
    are ISO 8601 in UTC. chrome-trace is for https://ui.perfetto.dev and speedscope: runs are
    processes, and operations are bars, those at the same time one below the other.

    The entries are as they are when the export begins, however many: only a few hundred are in memory
    at a time.

    FILE is there when all of it is written, and not before; what it held stays if that fails. The exit code
    is 3 then, 1 when there is no such entry, and 2 for wrong usage or settings.
    """
    export = partial(_write, task_id, to_only(**wanted), FORMATS[name]())
    if output is None:
        _export_to_stdout(export)
        return
    with _replacing(output) as file:
        written = asyncio.run(export(file))
        size_bytes = file.tell() if file.seekable() else 0
    of_run = "" if task_id is None else f" of the run {task_id!r}"
    click.echo(printable(f"{written:,} entries{of_run}, {size_bytes:,} bytes: {output}"), err=True)


def _export_to_stdout(export: "Callable[[BinaryIO | _Shown], Coroutine[Any, Any, int]]") -> None:
    with output_errors():
        stdout = sys.stdout.buffer
        asyncio.run(export(_Shown() if stdout.isatty() else stdout))
        stdout.flush()


async def _write(task_id: str | None, only: Only, form: Format, file: "BinaryIO | _Shown") -> int:
    """Write them; return how many there are.

    Raises:
        NothingStoredError: there are none, and nothing is written.
    """
    written = 0
    async with open_database("export", _PAGE_SECONDS) as (engine, settings):
        timeline, only = await located(engine, settings, task_id, only)
        async with aclosing(timeline.pages(only)) as pages:
            async for page in pages:
                if not written:
                    file.write(form.head())
                file.write(form.body(page))
                written += len(page)
    if not written:
        raise NothingStoredError.of(task_id) if only == ALL else NothingStoredError("no such entry is stored")
    file.write(form.foot())
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
