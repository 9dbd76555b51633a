"""The context as a text, for a message to another process: OpenTelemetry calls it inject and extract."""

from typing import Any
from uuid import UUID

import msgspec

from execution_logger.api.context import FILLED, Block, block_here, operation_here
from execution_logger.entry.masking import SensitiveKeys, Verdict

MAX_CHARS = 4096
"""Of the text: a header is read by everybody on the way."""

_FRAME_CHARS = 100
"""Room for what stands around the fields."""


class _Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    fields: dict[str, str | bool | int | float] = {}
    operation_id: UUID | None = None
    run_goes_on: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Carried).decode


def inject(keys: SensitiveKeys) -> str | None:
    """The fields and the operation that are entered here, as a text; None where there are none.

    Of the fields it holds texts, numbers and UUIDs, as many as there is room for, those with a column first.
    Secrets are left out.

    Args:
        keys: tells which fields are secrets.
    """
    block, operation_id = block_here(), operation_here()
    if not block.fields and operation_id is None:
        return None
    fields: dict[str, Any] = {}
    room: float = MAX_CHARS - _FRAME_CHARS
    for key, value in sorted(block.fields.items(), key=lambda field: field[0] not in FILLED):
        plain = str(value) if type(value) is UUID else value
        if _may_leave(key, plain, keys) and (chars := _encoded_chars({key: plain})) <= room:
            fields[key] = plain
            room -= chars
    # The run's name is that of the fields: whoever begins it fills it in.
    goes_on = block.run_goes_on and fields.get("task_id") == block.run
    carried = _Carried(fields, None if operation_id is None else UUID(operation_id), goes_on)
    return _encode(carried).decode()


def extract(text: Any) -> Block | None:
    """What `inject` has made, as a block to enter; None of anything else, which may be forged."""
    if type(text) is not str or len(text) > MAX_CHARS:
        return None
    try:
        carried = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    operation_id = None if carried.operation_id is None else str(carried.operation_id)
    run = str(carried.fields["task_id"]) if carried.run_goes_on and "task_id" in carried.fields else None
    return Block(carried.fields, operation_id, run, None, run_goes_on=run is not None)


def _may_leave(key: str, value: Any, keys: SensitiveKeys) -> bool:
    if type(value) is str:
        return len(value) <= MAX_CHARS and keys[key] is Verdict.KEEP and not keys.shown_in(value)
    return type(value) in {bool, int, float} and keys[key] is not Verdict.MASK


def _encoded_chars(field: dict[str, Any]) -> float:
    """Of one field; infinite if JSON has no text for it: half a character, thousands of digits, NaN."""
    try:
        text = _encode(field)
    except ValueError:
        return float("inf")
    return float("inf") if text.endswith(b":null}") else len(text)
