"""The doctor: what is wrong with a deployment, found from outside, with what to do about it."""

from typing import TYPE_CHECKING, Any

from execution_logger.operate.doctor.examination import AREAS, examine
from execution_logger.operate.doctor.finding import Finding, Level, Subject, worst

if TYPE_CHECKING:
    from execution_logger.operate.doctor.probe import Probe, send_probe

__all__ = ["AREAS", "Finding", "Level", "Probe", "Subject", "examine", "send_probe", "worst"]


def __getattr__(name: str) -> Any:
    """Import the probe when it is asked for: it reads the tables, for which a host has not the packages."""
    if name not in ("Probe", "send_probe"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from execution_logger.operate.doctor import probe  # noqa: PLC0415

    return getattr(probe, name)
