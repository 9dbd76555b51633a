"""The Dockerfile, the compose file and the pinned versions fit the project.

`scripts/test.sh lint` checks their form (hadolint, the schema of compose files, shellcheck).
"""

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from execution_logger.settings import describe

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPTS = ["demo.sh", "start_celery_worker.sh", "start_flower.sh", "test.sh"]


def test_the_example_environment_names_what_compose_reads() -> None:
    """Copied to .env as it is, it is a deployment that starts."""
    example = re.findall(r"^(\w+)=.", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(example) == sorted(set(re.findall(r"\$\{(\w+)", COMPOSE)))


def test_compose_publishes_ports_on_this_machine_only() -> None:
    """Redis and the pages have no protection that a network would need."""
    published = re.findall(r'^ +- "?(\S+):\d+"?$', COMPOSE, re.MULTILINE)
    assert published
    assert all(address.startswith("127.0.0.1:") for address in published)


def test_compose_sets_variables_that_exist() -> None:
    """A misspelt variable would be ignored without a word."""
    known = {name for names, _, _ in describe() for name in names.split(" / ")}
    used = set(re.findall(r"^ +((?:EXECUTION_LOGGER|CELERY|DATABASE)_\w+):", COMPOSE, re.MULTILINE))
    assert used
    assert used <= known


def test_the_dockerfile_copies_files_that_are_in_its_context() -> None:
    """Each source exists, and .dockerignore lets it in."""
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in chain.from_iterable(copy.split() for copy in copies):
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/', 1)[0]}" in allowed, source


def test_constraints_pin_every_dependency_and_nothing_else_is_in_them() -> None:
    """Only `name==version` lines, with a line for each name of pyproject.toml."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+-]+", line) for line in lines)
    pinned = {normalised(line) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = chain(
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    )
    assert {normalised(name) for name in wanted if "== 'win32'" not in name} <= pinned


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable_and_parse(name: str) -> None:
    """They are called by their path."""
    script = ROOT / "scripts" / name
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)


def normalised(requirement: str) -> str:
    """The name of a requirement, as package indexes compare it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return re.sub(r"[-_.]+", "-", name[0]).lower()
