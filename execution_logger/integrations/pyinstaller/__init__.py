"""For PyInstaller, which asks installed packages for their hooks: what a frozen host must have with it."""

from pathlib import Path


def hook_directories() -> list[str]:
    """Where the hook is; the entry point `pyinstaller40` names this function."""
    return [str(Path(__file__).parent)]
