"""The services of docker-compose.yml as processes of this machine: their commands and their health checks."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from processes import LocalProcess
from waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent

_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")
_CHECK_SECONDS = 30.0
_PASSED_ON = ("PYTHONPATH", "XDG_STATE_HOME")


def assert_harmless(service: Mapping[str, Any]) -> None:
    """Nobody becomes root, nothing is written but to volumes, memory and disk have a limit."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "cpus"}
    assert service["logging"]["options"]["max-size"]


class Compose:
    """The file with its variables filled in, and with addresses, ports and folders of this machine.

    Args:
        folder: where the services run, and what they write.
        variables: what is in `.env`.
        replacements: what to put in the place of what, in commands, environments and health checks.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], replacements: Mapping[str, str]) -> None:
        self._folder = folder
        self._variables = variables
        self._replacements = replacements
        self._services: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())[
            "services"
        ]
        for name in ("tasks", "examples", "deploy"):
            (folder / name).symlink_to(ROOT / name)

    def command(self, name: str) -> list[str]:
        """What the service runs."""
        command = self._services[name]["command"]
        return (
            shlex.split(self._filled(command))
            if isinstance(command, str)
            else list(map(self._filled, command))
        )

    def environment(self, name: str) -> dict[str, str]:
        """What the service finds in its environment, and the little that its image has set."""
        service = self._services[name]
        from_file = self._variables if "env_file" in service else {}
        own = {key: self._filled(str(value)) for key, value in service["environment"].items()}
        passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            "PATH": path,
            "HOME": "/nonexistent",
            "PYTHONUNBUFFERED": "1",
            **passed_on,
            **from_file,
            **own,
        }

    def start(self, name: str, *further: str, **variables: str) -> LocalProcess:
        """Start the service."""
        output = self._folder / f"{name}-{len(list(self._folder.glob('*.txt')))}.txt"
        environment = {**self.environment(name), **variables}
        command = [*self.command(name), *further]
        return LocalProcess(command, output=output, environment=environment, folder=self._folder)

    def is_healthy(self, name: str, **variables: str) -> bool:
        """Whether the service's health check says so."""
        kind, *words = self._services[name]["healthcheck"]["test"]
        command = [self._filled(word) for word in words]
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *command]
        done = subprocess.run(
            command,
            env={**self.environment(name), **variables},
            cwd=self._folder,
            capture_output=True,
            check=False,
            text=True,
            timeout=_CHECK_SECONDS,
        )
        print(name, done.returncode, done.stdout[-500:], done.stderr[-500:])
        return done.returncode == 0

    def wait_until_healthy(self, name: str, process: LocalProcess) -> None:
        """Wait until the service's health check succeeds; it must not end before."""

        def is_healthy() -> bool:
            assert process.is_running(), process.output
            return self.is_healthy(name)

        wait_until(is_healthy, _CHECK_SECONDS, message=lambda: process.output)

    def _filled(self, text: str) -> str:
        filled = _VARIABLE.sub(self._value, text)
        # All in one go: what one has put there, a port that ends in 8000, is nothing for another one.
        longest_first = sorted(self._replacements, key=len, reverse=True)
        old = "|".join(map(re.escape, longest_first))
        return re.sub(old, lambda found: self._replacements[found[0]], filled)

    def _value(self, found: "re.Match[str]") -> str:
        name, kind, word = found.groups()
        if name is None:
            return "$"
        value = self._variables.get(name, "")
        assert value or kind != "?", f"{name}: {word}"
        return value or (word if kind == "-" else "")
