"""The status: what each part of the site says, asked all at once."""

from execution_logger.operate.status.asking import ANSWER_SECONDS, Part
from execution_logger.operate.status.parts import PARTS, StatusReader

__all__ = ["ANSWER_SECONDS", "PARTS", "Part", "StatusReader"]
