"""Print the table of all settings, as docs/SETTINGS.md shows it between its `settings` marks."""  # noqa: INP001 - run by file

import sys

from execution_logger.settings import describe


def table() -> str:
    """The settings as a Markdown table: variable, default, meaning."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for variables, default, meaning in describe():
        names = " / ".join(f"`{name}`" for name in variables.split(" / "))
        lines.append(f"| {names} | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
