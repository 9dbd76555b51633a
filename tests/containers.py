"""The same servers in containers, for machines that have nothing but a Docker engine."""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from waiting import wait_until


class Container:
    """A container of a Docker engine, removed when it ends; its volume `/data` is kept."""

    def __init__(
        self, image: str, arguments: Sequence[str], *, ports: str, volume: str, variables: Mapping[str, str]
    ) -> None:
        """Run `image` with `arguments`; `ports` is `-p` of `docker run`, `variables` its environment."""
        options = ["--rm", "--detach", "--publish", ports, "--volume", f"{volume}:/data"]
        for name, value in variables.items():
            options += ["--env", f"{name}={value}"]
        self._id = docker("run", *options, image, *arguments)

    @property
    def output(self) -> str:
        """All that it has printed so far; nothing once it is removed."""
        return docker("logs", self._id, check=False)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return docker("inspect", "--format", "{{.State.Running}}", self._id, check=False) == "true"

    def stop(self, number: signal.Signals) -> None:
        """Send the signal `number` and wait until it is gone."""
        self.resume()
        self._end(number)

    def kill(self) -> None:
        """SIGKILL it and wait until it is gone."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze every process in it."""
        docker("pause", self._id)

    def resume(self) -> None:
        """Let it go on, when it is frozen."""
        docker("unpause", self._id, check=False)

    def _end(self, number: signal.Signals) -> None:
        docker("kill", "--signal", number.name, self._id, check=False)
        wait_until(lambda: not docker("ps", "--all", "--quiet", "--filter", f"id={self._id}"), 20)


def docker(*arguments: str, check: bool = True) -> str:
    """The output of a docker command."""
    done = subprocess.run(
        ["docker", *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)} failed: {done.stdout.strip()}")
    return done.stdout.strip()


def has_docker() -> bool:
    """Whether a Docker engine answers; the program alone is only its client."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "version"], check=False, capture_output=True).returncode == 0
