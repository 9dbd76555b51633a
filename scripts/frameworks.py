"""Try the ways in with the lowest and the newest versions that they support, each in its own environment.

    python scripts/frameworks.py [NAME ...] [--write]

The lowest version is that of the extra in pyproject.toml, the newest one what pip finds; what they need in
turn is what pip finds, too. `--write` puts the table of results into docs/integrations.
"""  # noqa: INP001 - run by file

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venv" / "frameworks"
PAGES = (ROOT / "docs/integrations/README.md", ROOT / "docs/integrations/README.zh-CN.md")
PASSED = "passed"

_TOOLS = ("fakeredis", "hypothesis", "psutil", "pydantic", "pytest", "pytest-asyncio", "pytest-timeout")
_TABLE = re.compile(r"(<!-- versions -->\n)(.*?)(<!-- /versions -->)", re.DOTALL)
_ROW = re.compile(r"^(?P<row>\| `(?P<extra>[\w-]+)` .*)$", re.MULTILINE)
_REQUIREMENT = re.compile(r"([\w-]+)>=([\w.]+)")
_COUNT = re.compile(r"(\d+) passed")


@dataclass(frozen=True)
class Framework:
    """What is tried, by the name of its extra.

    Attributes:
        tests: the file of its tests.
        besides: packages that the tests use it with.
        with_lowest: such ones with its lowest version, for which pip would look for long.
    """

    tests: str
    besides: tuple[str, ...] = ()
    with_lowest: tuple[str, ...] = ()


FRAMEWORKS = {
    "structlog": Framework("tests/unit/test_structlog_processor.py"),
    "loguru": Framework("tests/unit/test_loguru_sink.py"),
    "opentelemetry": Framework(
        "tests/unit/test_opentelemetry.py", ("opentelemetry-instrumentation-redis", "structlog")
    ),
    "openai-agents": Framework("tests/unit/test_openai_agents.py"),
    "langchain": Framework(
        "tests/unit/test_langchain.py",
        ("langgraph",),
        ("langgraph<0.6", "langgraph-checkpoint<3", "langgraph-prebuilt<0.6", "langgraph-sdk<0.2"),
    ),
    "crewai": Framework("tests/frameworks/test_crewai.py"),
    "llama-index": Framework("tests/frameworks/test_llama_index.py"),
    "flask": Framework("tests/unit/test_flask_extension.py"),
    "django": Framework("tests/unit/test_django_app.py"),
}


@dataclass(frozen=True)
class Result:
    """How the tests have gone with one version."""

    package: str
    version: str
    outcome: str

    @property
    def cell(self) -> str:
        """It in the table."""
        return f"{self.version} ({self.outcome})"


def floor_of(extra: str) -> tuple[str, str]:
    """The package of an extra, and the lowest version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = project["optional-dependencies"][extra]
    found = _REQUIREMENT.fullmatch(requirement)
    if found is None:
        raise ValueError(f"the extra {extra} has no lowest version: {requirement}")
    return found[1], found[2]


def try_versions(extra: str) -> Iterator[Result]:
    """Run the tests with the lowest version, and with the newest one."""
    package, lowest = floor_of(extra)
    framework = FRAMEWORKS[extra]
    pins = {
        "lowest": (f"{package}=={lowest}", *(framework.with_lowest or framework.besides)),
        "newest": (package, *framework.besides),
    }
    for versions, requirements in pins.items():
        python = make_environment(f"{extra}-{versions}", *requirements)
        version = output(python, f"import importlib.metadata as m; print(m.version({package!r}))").strip()
        run = subprocess.run(  # noqa: S603 - our own command
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", framework.tests],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        count = _COUNT.search(run.stdout)
        passed = run.returncode == 0 and count is not None
        if not passed:
            sys.stdout.write(run.stdout)
        yield Result(package, version, f"{count[1]} {PASSED}" if passed and count else "failed")


def make_environment(name: str, *requirements: str) -> Path:
    """Install the wheel in dist, its tests' tools and these into an environment; its Python."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        check(sys.executable, "-m", "venv", "--without-pip", str(folder))
    (wheel,) = (ROOT / "dist").glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile")
    pip += ("--disable-pip-version-check",)
    check(*pip, "--upgrade", f"{wheel}[worker]", *_TOOLS, *requirements)
    check(*pip, "--force-reinstall", "--no-deps", str(wheel))
    return python


def check(*command: str) -> None:
    """Run a command that is to succeed."""
    subprocess.run(command, check=True)  # noqa: S603 - our own command


def output(python: Path, code: str) -> str:
    """What a line of Python prints."""
    return subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - as above


def row_of(extra: str, lowest: Result, newest: Result) -> str:
    """The results, as a row of the table."""
    return f"| `{extra}` | {lowest.package} | {lowest.cell} | {newest.cell} |"


def write(page: Path, rows: dict[str, str]) -> None:
    """Put these rows into the table of a page; those of others stay."""
    text = page.read_text(encoding="utf-8")
    (table,) = _TABLE.findall(text)
    head, known = (
        "".join(table[1].splitlines(keepends=True)[:2]),
        {each["extra"]: each["row"] for each in _ROW.finditer(table[1])},
    )
    body = "".join(f"{row}\n" for extra in FRAMEWORKS if (row := rows.get(extra) or known.get(extra)))
    page.write_text(text.replace("".join(table), f"{table[0]}{head}{body}{table[2]}"), encoding="utf-8")


def main() -> int:
    """Try those that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FRAMEWORKS))
    parser.add_argument("--write", action="store_true", help="put the table into docs/integrations")
    options = parser.parse_args()
    is_well = True
    for extra in options.names or FRAMEWORKS:
        lowest, newest = try_versions(extra)
        row = row_of(extra, lowest, newest)
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        is_well = is_well and all(each.outcome.endswith(PASSED) for each in (lowest, newest))
        if options.write:
            for page in PAGES:
                write(page, {extra: row})
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
