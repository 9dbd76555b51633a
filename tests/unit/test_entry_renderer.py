"""Any value has a text, and what that does not tell is marked."""

import base64
import signal
import sys
from asyncio import CancelledError
from typing import Any

import pytest

from anything import PlainRepr, raised
from execution_logger.entry.changes import Changes
from execution_logger.entry.masking import MASK, SensitiveKeys
from execution_logger.entry.renderer import Renderer


class Rendering:
    """A renderer and what it marked."""

    def __init__(self, max_bytes: int = 100_000) -> None:
        self.changes = Changes()
        self.renderer = Renderer(SensitiveKeys(("password",)), self.changes, max_bytes)

    def text(self, value: Any) -> str:
        """The text of a value."""
        return self.renderer.text(value, 100_000)

    @property
    def marks(self) -> str:
        """All marks; no place has a name here."""
        return self.changes.within(1000).get("", "")


class WithRepr:
    """An object whose repr raises or returns what it is told."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __repr__(self) -> str:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (5, "5"),
        (b"caf\xc3\xa9", "café"),
        (bytearray(b"x"), "x"),
        (memoryview(b"xyz")[::2], "xz"),
    ],
)
def test_exact_texts_are_not_marked(value: Any, text: str) -> None:
    """Nothing is lost."""
    rendering = Rendering()
    assert rendering.text(value) == text
    assert rendering.marks == ""


def test_bytes_that_are_no_text_are_base64() -> None:
    """From which they can be made again."""
    rendering = Rendering()
    assert base64.b64decode(rendering.text(b"\xff\x00\xfe")) == b"\xff\x00\xfe"
    assert rendering.marks == "was 3 bytes that are no UTF-8; this is their base64"


def test_of_many_bytes_only_as_many_are_converted_as_may_be_kept() -> None:
    """The rest would be cut off."""
    assert len(Rendering(3000).text(b"\xff" * 1_000_000)) == 4000


def test_other_objects_are_shown_by_their_repr() -> None:
    """And that is said."""
    rendering = Rendering()
    assert rendering.text(PlainRepr(5)) == "PlainRepr(value=5)"
    assert rendering.marks == "was a PlainRepr; this is its repr"


def test_a_repr_shows_no_secrets() -> None:
    """As far as it names them."""
    assert Rendering().text(PlainRepr({"password": "hunter2"})) == f"PlainRepr(value={{'password':{MASK}}})"


def test_a_long_repr_is_cut() -> None:
    """And that is said."""
    rendering = Rendering()
    assert len(rendering.text(PlainRepr("x" * 5000))) == 2000
    assert "cut from 5019 characters to 2000" in rendering.marks


@pytest.mark.parametrize(
    "result", [ValueError(), SystemExit(), GeneratorExit(), RecursionError(), MemoryError(), None, 5, b"text"]
)
def test_an_unreadable_object_has_a_placeholder(result: Any) -> None:
    """Whatever its repr does instead of returning a text."""
    rendering = Rendering()
    assert rendering.text(WithRepr(result)) == "<unreadable WithRepr>"
    error = type(result).__name__ if isinstance(result, BaseException) else "TypeError"
    assert error in rendering.marks


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), type("Own", (KeyboardInterrupt,), {})(), CancelledError()]
)
def test_no_exception_of_the_datas_escapes(error: BaseException) -> None:
    """Not even those that end a program, or a task."""
    assert Rendering().text(WithRepr(error)) == "<unreadable WithRepr>"


class Signalled:
    """An object during whose repr a signal comes."""

    def __repr__(self) -> str:
        signal.raise_signal(signal.SIGINT)
        return "not reached"


@pytest.mark.parametrize(
    "error",
    [None, KeyboardInterrupt, SystemExit, TimeoutError, GeneratorExit, type("Own", (BaseException,), {})],
)
def test_what_a_signal_brings_goes_on(error: type[BaseException] | None) -> None:
    """Ctrl-C ends the program, also while that is logging, and so does what a host's own handler raises."""

    def handle(*_: Any) -> None:
        if error is SystemExit:
            sys.exit(1)
        if error is not None:
            raise error

    before = signal.signal(signal.SIGINT, handle if error else signal.default_int_handler)
    try:
        with pytest.raises(error or KeyboardInterrupt):
            Rendering().text(Signalled())
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_exception_has_type_message_and_traceback() -> None:
    """The traceback with what caused it."""
    rendering = Rendering()
    parts = rendering.renderer.exception(raised(ValueError("wrong"), raised(KeyError("cause"))))
    assert (parts["type"], parts["message"]) == ("ValueError", "wrong")
    assert "KeyError: 'cause'" in parts["traceback"]
    assert "direct cause" in parts["traceback"]
    assert parts["traceback"].endswith("ValueError: wrong\n")
    assert rendering.marks == ""


def test_an_exception_shows_no_secrets() -> None:
    """Neither in its message nor in the last line of its traceback."""
    parts = Rendering().renderer.exception(raised(ValueError({"password": "hunter2"})))
    assert "hunter2" not in str(parts)
    assert parts["message"] == f"{{'password':{MASK}}}"


def test_a_long_traceback_keeps_its_end() -> None:
    """Where the error is."""
    rendering = Rendering(max_bytes=4000)
    parts = rendering.renderer.exception(raised(ValueError("wrong"), raised(KeyError("x" * 5000))))
    assert len(parts["traceback"]) == 1000
    assert parts["traceback"].endswith("ValueError: wrong\n")
    assert "to its last 1000" in rendering.marks


def test_an_exception_that_cannot_say_what_is_wrong_keeps_its_traceback() -> None:
    """Its type and its place are worth more than its message."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    rendering = Rendering()
    parts = rendering.renderer.exception(raised(MuteError()))
    assert (parts["type"], parts["message"]) == ("MuteError", "<unreadable MuteError>")
    assert "in fail" in parts["traceback"]
    assert "SystemExit" in rendering.marks
