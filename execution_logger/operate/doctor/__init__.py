"""The doctor: what is wrong with a deployment, found from outside, with what to do about it."""

from execution_logger.operate.doctor.examination import AREAS, examine
from execution_logger.operate.doctor.finding import Finding, Level, Subject, worst
from execution_logger.operate.doctor.probe import Probe, send_probe

__all__ = ["AREAS", "Finding", "Level", "Probe", "Subject", "examine", "send_probe", "worst"]
