"""The status: what each part of the site says, asked all at once."""

from execution_logger.status.asking import ANSWER_SECONDS, Part
from execution_logger.status.parts import PARTS, StatusReader

__all__ = ["ANSWER_SECONDS", "PARTS", "Part", "StatusReader"]
