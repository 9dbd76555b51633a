"""The Dockerfile, the compose file and the pinned versions fit the project.

`scripts/test.sh lint` checks their form (hadolint, the schema of compose files, shellcheck).
"""

import re
import shlex
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from compose import assert_harmless
from execution_logger import Settings
from execution_logger.settings import describe

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DEVELOPMENT = (ROOT / "docker-compose.dev.yml").read_text()
SERVICES: dict[str, Any] = YAML(typ="safe").load(COMPOSE)["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENVIRONMENT = (ROOT / ".env.example").read_text()
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
SUPERVISORD = ROOT / "deploy" / "supervisord.conf"
TRIED_ALONE = ("crewai", "llama-index")
"""Extras that are never installed beside the others: scripts/frameworks.py tries them."""
SCRIPTS = [
    "demo.sh",
    "init_redis.sh",
    "lint_units.sh",
    "start_celery_beat.sh",
    "start_celery_worker.sh",
    "start_flower.sh",
    "test.sh",
]

every_service = pytest.mark.parametrize("name", SERVICES)
every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


class TestEnvironment:
    """`.env.example`."""

    def test_it_names_what_compose_reads(self) -> None:
        """Copied to .env, with passwords, it is a deployment that starts."""
        example = re.findall(r"^(\w+)=", ENVIRONMENT, re.MULTILINE)
        assert sorted(example) == sorted(set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE + DEVELOPMENT)))

    def test_it_explains_every_setting(self) -> None:
        """`python scripts/env_example.py` prints it."""
        command = [sys.executable, str(ROOT / "scripts" / "env_example.py")]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
        assert printed == ENVIRONMENT
        for variables, _, _ in describe():
            assert f"\n#{variables.partition(' / ')[0]}=" in ENVIRONMENT

    def test_the_defaults_can_be_read_back(self) -> None:
        """Whoever takes the `#` away from every line has changed nothing."""
        lines = re.findall(r"^#(\w+)=(.*)$", ENVIRONMENT, re.MULTILINE)
        assert len(lines) == len(describe())
        read = {name: " ".join(shlex.split(value)) for name, value in lines}
        assert Settings.from_environment(read) == Settings()

    def test_no_password_has_a_default(self) -> None:
        """Compose refuses to start without; nobody runs with the one that everybody knows."""
        secrets = re.findall(r"^(\w*(?:PASSWORD|AUTH)\w*)=(.*)$", ENVIRONMENT, re.MULTILINE)
        assert len(secrets) == 3
        for name, value in secrets:
            assert value == ""
            assert f"${{{name}:?" in COMPOSE
            assert not re.search(rf"\$\{{{name}(?!:\?)", COMPOSE + DEVELOPMENT)


class TestCompose:
    """`docker-compose.yml` and `docker-compose.dev.yml`."""

    def test_ports_are_published_on_this_machine_only(self) -> None:
        """Redis and the pages have no protection that a network would need."""
        published = re.findall(r'^ +- "?(\S+):\d+"?$', COMPOSE + DEVELOPMENT, re.MULTILINE)
        assert len(published) == 5
        assert all(address.startswith("127.0.0.1:") for address in published)

    def test_redis_and_postgresql_have_no_port(self) -> None:
        """Nor a way to the outside: their network is internal."""
        for name in ("redis", "postgres"):
            assert "ports" not in SERVICES[name]
            assert SERVICES[name]["networks"] == ["back"]
        assert YAML(typ="safe").load(COMPOSE)["networks"]["back"] == {"internal": True}

    def test_it_sets_variables_that_exist(self) -> None:
        """A misspelt variable would be ignored without a word."""
        known = {name for names, _, _ in describe() for name in names.split(" / ")}
        used = set(re.findall(r"^ +((?:EXECUTION_LOGGER|CELERY|DATABASE)_\w+):", COMPOSE, re.MULTILINE))
        assert used
        assert used <= known

    @every_service
    def test_a_service_can_do_no_harm(self, name: str) -> None:
        """Nobody is root or becomes root, nothing is written but to volumes, memory and disk have a limit."""
        service = SERVICES[name]
        assert_harmless(service)
        assert "user" in service or service["build"]["context"] == "."

    @every_service
    def test_a_service_comes_back_and_is_looked_after(self, name: str) -> None:
        """The migration ends, and is tried again until it has succeeded."""
        service = SERVICES[name]
        if name == "migrate":
            assert service["restart"] == "on-failure"
            return
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")

    def test_a_shutdown_has_the_time_that_it_takes(self) -> None:
        """Otherwise the batches in hand come again after the visibility timeout."""
        settings = Settings()
        assert seconds(SERVICES["worker"]["stop_grace_period"]) > settings.database_timeout_seconds
        assert seconds(SERVICES["api"]["stop_grace_period"]) > settings.shutdown_timeout_seconds

    def test_the_override_changes_services_that_there_are(self) -> None:
        """Their limits and health checks stay."""
        override = YAML(typ="safe").load(DEVELOPMENT)["services"]
        assert override.keys() <= SERVICES.keys()
        assert not any({"healthcheck", "deploy", "user"} & service.keys() for service in override.values())


class TestSupervisord:
    """`deploy/supervisord.conf`; the integration tests run it."""

    @pytest.mark.parametrize("name", ["worker", "beat", "flower", "ui"])
    def test_a_program_starts_again_and_ends_in_order(self, name: str) -> None:
        """SIGTERM to the main process alone, SIGKILL after a shutdown had its time; its log is bounded."""
        parser = RawConfigParser(inline_comment_prefixes=(";",))
        parser.read(SUPERVISORD)
        program = parser[f"program:{name}"]
        assert program["command"] == f"execution-logger {name} --stop-at-eof"
        assert program["autorestart"] in ("true", "unexpected")
        assert (program["stopsignal"], program.getboolean("stopasgroup", False)) == ("TERM", False)
        assert int(program["stopwaitsecs"]) > Settings().database_timeout_seconds
        assert program["stdout_logfile_maxbytes"] == "10MB"
        assert program["stdout_logfile_backups"] == "5"

    def test_variables_exist(self) -> None:
        """Supervisord refuses a file that names others."""
        assert set(re.findall(r"ENV_(\w+)", SUPERVISORD.read_text())) == {
            "EXECUTION_LOGGER_SERVICE_DIRECTORY"
        }


class TestUnits:
    """`deploy/systemd`; `scripts/lint_units.sh` reads them as systemd does."""

    @every_unit
    def test_a_unit_starts_again_and_ends_in_order(self, unit: Path) -> None:
        """SIGTERM to the main process alone; SIGKILL after longer than a shutdown takes."""
        lines = unit.read_text().splitlines()
        assert "Restart=always" in lines
        assert "StartLimitIntervalSec=0" in lines
        assert "KillMode=mixed" in lines
        timeout = next(int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec="))
        assert timeout > max(Settings().shutdown_timeout_seconds, Settings().database_timeout_seconds)

    @every_unit
    def test_credentials_are_in_a_file_of_roots(self, unit: Path) -> None:
        """Units can be read by everybody."""
        text = unit.read_text()
        assert re.search(r"^EnvironmentFile=/etc/execution-logger/", text, re.MULTILINE)
        assert not re.search(r"^Environment=.*://", text, re.MULTILINE)

    @every_unit
    def test_variables_exist(self, unit: Path) -> None:
        """And what systemd makes is where they point to."""
        known = {name for names, _, _ in describe() for name in names.split(" / ")}
        text = unit.read_text()
        for name, folder in re.findall(r"^Environment=(\w+)=/var/lib/(\S+)$", text, re.MULTILINE):
            assert name in known
            assert f"StateDirectory={folder}\n" in text

    def test_commands_exist(self) -> None:
        """As the command line calls them."""
        commands = re.findall(r"execution-logger (\w+)$", "".join(map(Path.read_text, UNITS)), re.MULTILINE)
        assert sorted(commands) == ["beat", "flower", "metrics", "ui", "worker"]


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
    extras = project["project"]["optional-dependencies"]
    wanted = chain(
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *(requirements for name, requirements in extras.items() if name not in TRIED_ALONE),
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


def seconds(text: str) -> int:
    """The seconds of `30s`."""
    return int(text.removesuffix("s"))
