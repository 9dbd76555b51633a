"""Runs every cell of the fault suite in its long form, and prints the table of docs/RELIABILITY.md.

    python tests/integration/faults/matrix.py [--repetitions 20] [--minutes 10] [--only NAME] [--record FILE]

It needs what the integration tests need: the package and its test dependencies installed, a
redis-server and a PostgreSQL on this machine. The exit code is 1 when anything was lost, stored
twice or out of order, or when a cell failed for another reason.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]

OTHERS = ("test_forged_messages.py", "test_guarded_redis.py", "test_pyinstaller.py")
"""Files beside the suite with tests that are marked `long`: they are run, and have no line in the table."""

HEADINGS = (
    "fault",
    "repetitions",
    "entries",
    "rows",
    "lost",
    "twice",
    "out of order",
    "longest recovery in s",
    "notes",
)


def main() -> int:
    """Run pytest, and print what its cells have counted."""
    options = parsed_options()
    with tempfile.TemporaryDirectory() as folder:
        record = options.record or Path(folder) / "figures.jsonl"
        record.touch()
        began_at = time.monotonic()
        code = run_cells(options, record)
        figures = [json.loads(line) for line in record.read_text().splitlines()]
    print_table(figures)
    total = sum(each["calls"] for each in figures)
    lost = sum(each["lost"] for each in figures)
    minutes = (time.monotonic() - began_at) / 60
    print(f"\n{len(figures)} cells, {total:,} entries, {lost} lost, in {minutes:.0f} minutes.")
    return int(code != 0 or any(not each["is_exact"] for each in figures))


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=20, help="of each kill at a random moment")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--only", default="", help="cells whose names match, as for pytest -k")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the random moments")
    parser.add_argument(
        "--record",
        type=lambda text: Path(text).resolve(),
        help="where each cell's figures are appended; the table shows all that are there (default: nowhere)",
    )
    return parser.parse_args()


def run_cells(options: argparse.Namespace, record: Path) -> int:
    """Run pytest with its output on standard error; its exit code."""
    environment = {
        **os.environ,
        "FAULTS_REPETITIONS": str(options.repetitions),
        "FAULTS_MINUTES": str(options.minutes),
        "FAULTS_SEED": str(options.seed),
        "FAULTS_RECORD": str(record),
    }
    print(f"seed {options.seed}", file=sys.stderr)
    places = [str(FOLDER), *(str(FOLDER.parent / name) for name in OTHERS)]
    command = [sys.executable, "-m", "pytest", *places, "--timeout", "1800", "-k", options.only, "-v"]
    return subprocess.run(command, env=environment, cwd=ROOT, stdout=sys.stderr, check=False).returncode


def print_table(figures: list[dict[str, Any]]) -> None:
    """The figures as a table in Markdown."""
    print(f"| {' | '.join(HEADINGS)} |")
    print(f"|{'|'.join('---' if name in ('fault', 'notes') else '---:' for name in HEADINGS)}|")
    for each in figures:
        cells = (
            each["fault"], each["repetitions"], f"{each['calls']:,}", f"{each['rows']:,}", each["lost"],
            each["duplicates"], each["out_of_order"], f"{each['recovery_seconds']:.1f}", each["note"],
        )  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    sys.exit(main())
