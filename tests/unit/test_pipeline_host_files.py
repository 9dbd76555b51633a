"""The files of `examples/pipeline_host` around its program: compose, image, supervisord, documents.

`scripts/test.sh lint` checks their form (hadolint, the schema of compose files).
"""

import re
from configparser import RawConfigParser
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from compose import assert_harmless
from execution_logger import Settings

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "examples" / "pipeline_host"
COMPOSE = (HOST / "docker-compose.yml").read_text()
SERVICES: dict[str, Any] = YAML(typ="safe").load(COMPOSE)["services"]
ENVIRONMENT = (HOST / ".env.example").read_text()
SUPERVISORD = HOST / "supervisord.conf"


class TestCompose:
    """`docker-compose.yml`."""

    def test_the_services_are_those_that_a_pipeline_needs(self) -> None:
        """Besides the migration, which ends, each has a health check and comes back."""
        assert SERVICES.keys() == {
            "redis", "postgres", "minio", "migrate", "web", "worker", "beat", "logs"
        }  # fmt: skip
        for name in SERVICES.keys() - {"migrate"}:
            assert SERVICES[name]["restart"] == "unless-stopped"
            assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")

    def test_the_environment_is_explained(self) -> None:
        """What compose reads is in `.env.example`, and no password has a value that everybody knows."""
        read = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE))
        assert set(re.findall(r"^#?(\w+)=", ENVIRONMENT, re.MULTILINE)) == read
        for name in re.findall(r"^(\w+)=(?=$)", ENVIRONMENT, re.MULTILINE):
            assert not re.search(rf"\$\{{{name}(?!:\?)", COMPOSE)

    def test_only_the_api_has_a_port(self) -> None:
        """On this machine only."""
        assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["web"]
        assert SERVICES["web"]["ports"][0].startswith("127.0.0.1:")
        assert all(service["networks"] == ["back"] for name, service in SERVICES.items() if name != "web")

    @pytest.mark.parametrize("name", SERVICES)
    def test_a_service_can_do_no_harm(self, name: str) -> None:
        """Nobody becomes root, nothing is written but to volumes, memory and disk have a limit."""
        assert_harmless(SERVICES[name])

    def test_workers_can_be_many(self) -> None:
        """`--scale worker=4`: nothing of a worker's is there only once."""
        assert not {"container_name", "hostname", "ports"} & SERVICES["worker"].keys()

    def test_results_have_a_database_of_their_own(self) -> None:
        """Redis's database 1; all of the host's processes, and the log's worker, see the same servers."""
        host = [SERVICES[name]["environment"] for name in ("migrate", "web", "worker", "beat", "logs")]
        assert all(environment == host[0] for environment in host)
        assert host[0]["CELERY_BROKER_URL"].endswith("@redis:6379/0")
        assert host[0]["CELERY_RESULT_BACKEND"].endswith("@redis:6379/1")

    def test_a_shutdown_has_the_time_that_it_takes(self) -> None:
        """Otherwise what is in hand comes again only after the visibility timeout."""
        grace = {
            name: int(service.get("stop_grace_period", "10s")[:-1]) for name, service in SERVICES.items()
        }
        assert grace["logs"] > Settings().database_timeout_seconds
        assert min(grace["web"], grace["worker"]) > Settings().shutdown_timeout_seconds


def test_the_image_copies_files_that_are_in_its_context() -> None:
    """Each source exists, and .dockerignore lets it in."""
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (HOST / "Dockerfile").read_text(), re.MULTILINE)
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in chain.from_iterable(copy.split() for copy in copies):
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/', 1)[0]}" in allowed, source


def test_programs_of_supervisord_end_in_order() -> None:
    """SIGTERM to the main process alone, SIGKILL after a shutdown had its time; their logs are bounded."""
    parser = RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(SUPERVISORD)
    programs = {name: parser[name] for name in parser.sections() if name.startswith("program:")}
    assert {name.partition(":")[2] for name in programs} == {"web", "worker", "beat", "logs", "flower"}
    for program in programs.values():
        assert program["autorestart"] in ("true", "unexpected")
        assert (program.get("stopsignal", "TERM"), program.getboolean("stopasgroup", False)) == (
            "TERM",
            False,
        )
        assert int(program["stopwaitsecs"]) > Settings().shutdown_timeout_seconds
        assert program["stdout_logfile_maxbytes"] == "10MB"
    variables = set(re.findall(r"ENV_(\w+)", SUPERVISORD.read_text()))
    assert variables == {"DATA_DIRECTORY", "PORT", "PIPELINE_WORKERS"}


def test_the_list_of_each_source_is_complete() -> None:
    """A document that is added to a folder is added to its `index.txt`."""
    for folder in (HOST / "documents").iterdir():
        names = sorted(path.name for path in folder.iterdir() if path.name != "index.txt")
        assert (folder / "index.txt").read_text().split() == names
