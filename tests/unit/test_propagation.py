"""The context as a text for a message: what it holds, and that nobody can do harm by it."""

import json
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from execution_logger import ExecutionLogger, Settings
from execution_logger.api.context import Block, context
from execution_logger.api.propagation import MAX_CHARS, extract, inject
from execution_logger.entry.masking import SensitiveKeys
from execution_logger.testing import capture_entries

KEYS = SensitiveKeys(Settings().sensitive_keys)


def carried(**fields: Any) -> dict[str, Any]:
    """What comes over of the fields of a context."""
    with context(**fields):
        block = extract(inject(KEYS))
    assert block is not None
    return dict(block.fields)


def test_outside_of_any_context_there_is_nothing_to_carry() -> None:
    """The message stays as it is."""
    assert inject(KEYS) is None


def test_the_operation_comes_over() -> None:
    """Its id is the parent of what is recorded there."""
    logger = ExecutionLogger(Settings())
    with capture_entries(logger), logger.sync.run("run-1") as operation:
        block = extract(inject(KEYS))
    assert isinstance(block, Block)
    assert (block.operation_id, block.fields, block.outer) == (
        operation.operation_id,
        {"task_id": "run-1"},
        None,
    )


def test_plain_values_come_over() -> None:
    """Texts, numbers and UUIDs; what else there is stays behind."""
    plain = {"text": "é\n", "number": 2**70, "rate": 0.5, "yes": True}
    strange = {"none": None, "list": [1], "decimal": Decimal(1), "object": object(), "bytes": b"x"}
    no_json = {"nan": math.nan, "infinite": math.inf, "endless": 10**5_000, "half": "\ud800"}
    id_ = UUID(int=1)
    assert carried(**plain, **strange, **no_json, id=id_) == {**plain, "id": str(id_)}


def test_secrets_stay_behind() -> None:
    """The header is read by everybody on the way; counts of tokens are none."""
    assert carried(api_key="x", url="redis://u:p@host", token=7, prompt_tokens=7) == {"prompt_tokens": 7}


def test_it_is_bounded() -> None:
    """What has no room stays behind, and the run comes before all else."""
    fields = {f"field-{number}": "x" * 100 for number in range(1_000)}
    with context(**fields, huge="x" * 10**7, task_id="run-1"):
        text = inject(KEYS)
    assert text is not None
    assert len(text) <= MAX_CHARS
    kept = json.loads(text)["fields"]
    assert kept["task_id"] == "run-1"
    assert 20 < len(kept) < 40


@pytest.mark.parametrize(
    "text",
    [None, 7, b"{}", "", "{", "[]", '{"operation_id":"x"}', '{"fields":{"a":{}}}', "[" * 4_000, "\ud800"],
)
def test_anything_else_is_nothing(text: object) -> None:
    """It may be forged."""
    assert extract(text) is None


def test_a_text_that_is_too_long_is_not_even_read() -> None:
    """However valid it is."""
    assert extract(json.dumps({"fields": {"a": "x" * MAX_CHARS}})) is None
