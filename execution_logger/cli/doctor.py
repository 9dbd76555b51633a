"""`execution-logger doctor`: what is wrong with a deployment, and what to do about it."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from execution_logger.cli.options import Number, json_option
from execution_logger.cli.terminal import Text, echo_json, hanging, open_console, print_lines, words
from execution_logger.errors import SettingsError
from execution_logger.operate.doctor import (
    AREAS,
    Finding,
    Level,
    Probe,
    Subject,
    examine,
    misspelt_variables,
    send_probe,
    unusable,
    worst,
)
from execution_logger.operate.doctor.finding import error
from execution_logger.settings import Settings
from execution_logger.text import printable

WRONG_USAGE = 2

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_LEVEL_CELLS, _AREA_CELLS = (2 + max(map(len, names)) for names in (Level, AREAS))


@click.command(context_settings={"show_default": True})
@click.option("--end-to-end", is_flag=True, help="Send an entry all the way, time it, and delete its row.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=Number(min=0.1),
    default=20.0,
    metavar="SECONDS",
    help="How long --end-to-end waits for the row.",
)
@click.option("--skip", multiple=True, type=click.Choice(AREAS), help="Leave this out; may be repeated.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@json_option
def command(
    end_to_end: bool,
    timeout_seconds: float,
    skip: tuple[str, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Find out what is wrong, and say what to do.

    Looks at settings, journal, broker, workers, result backend, database and clocks, as they are at
    this moment, with the settings of this environment. Changes nothing, and takes ten seconds at most;
    --end-to-end takes as long as an entry does.

    The exit code is 0 when there is no error, 1 when there is one (with --strict, or a warning; a server
    that is away is one), and 2 when the settings or the options cannot be used.
    """
    began_at = time.monotonic()
    try:
        settings = Settings.from_environment(dict(os.environ))  # misspelt names are findings
    except SettingsError as problem:
        _print([*misspelt_variables(os.environ), unusable(problem)], None, began_at, as_json=as_json)
        sys.exit(WRONG_USAGE)
    found = examine(Subject(settings, os.environ, time.time), skip)
    probe = _send_probe(settings, timeout_seconds, found) if end_to_end else None
    found += probe.findings if probe else []
    _print(found, probe, began_at, as_json=as_json)
    if any(finding.name.endswith(".settings") for finding in found):
        sys.exit(WRONG_USAGE)
    sys.exit(worst(found) is Level.ERROR or (strict and worst(found) is not Level.OK))


def _send_probe(settings: Settings, timeout_seconds: float, found: Sequence[Finding]) -> Probe:
    if obstacle := next((finding for finding in found if finding.is_final), None):
        what = f"no entry was sent: it would not arrive, see what is said of the {obstacle.area}"
        advice = f"do what is said there, and ask again; --skip {obstacle.area} sends it all the same"
        return Probe(findings=[error("probe.delivery", what, advice)])
    # What the library would warn of is in the findings.
    logger = logging.getLogger("execution_logger")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        return send_probe(settings, timeout_seconds)
    finally:
        logger.setLevel(level)


def _print(found: Sequence[Finding], probe: Probe | None, began_at: float, *, as_json: bool) -> None:
    seconds = time.monotonic() - began_at
    if as_json:
        facts = {
            "level": worst(found),
            "findings": [asdict(each) for each in found],
            "seconds": round(seconds, 3),
        }
        if probe is not None:
            facts["legs"] = {name: round(leg, 4) for name, leg in probe.seconds.items()}
        echo_json(facts)
        return
    console = open_console()
    for each in found:
        print_lines(console, _lines(each, console.width))
    console.print()
    console.print(_summary(found, seconds))


def _lines(finding: Finding, width: int) -> Iterator[Text]:
    level, area = f"{finding.level:<{_LEVEL_CELLS}}", f"{finding.area:<{_AREA_CELLS}}"
    head = Text.assemble((level, _STYLES[finding.level]), area)
    yield from hanging(head, words(Text(printable(finding.what))), width)
    if finding.advice:
        advice = Text(f"-> {printable(finding.advice)}", "bold")
        yield from hanging(Text(" " * len(head.plain)), words(advice), width)


def _summary(found: Sequence[Finding], seconds: float) -> Text:
    counts = {level: sum(each.level is level for each in found) for level in (Level.ERROR, Level.WARNING)}
    parts = [
        f"{number} {level if number == 1 else f'{level}s'}" for level, number in counts.items() if number
    ]
    text = f"{' and '.join(parts) or 'Nothing is wrong'}, after {seconds:.1f} s."
    return Text(text, _STYLES[worst(found)])
