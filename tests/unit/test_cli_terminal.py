"""The terminal: what others have written does not steer it."""

import pytest

from execution_logger.cli.terminal import OutputError, ago, output_errors, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("进展 50%", "进展 50%"),
        ("wide\u3000space, no\u00a0break", "wide\u3000space, no\u00a0break"),
        ("👩‍💻", "👩‍💻"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("txt\u202egpj", r"txt\u202egpj"),
        ("line\u2028break", r"line\u2028break"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\ud800", r"\ud800"),
        ("\0", r"\x00"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    """Everything else stays as it is."""
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s ago"), (-0.2, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"),
        (200_000, "2 days ago"), (-28_800, "in 8 h"),
    ],
)  # fmt: skip
def test_an_age_is_easy_to_read(seconds: float, text: str) -> None:
    """In the largest unit of which there are two; a time zone that is wrong shows."""
    assert ago(seconds) == text


def test_a_full_disk_is_an_error_line() -> None:
    """A reader that has gone is left to click."""
    with pytest.raises(OutputError, match="the output cannot be written: No space left"), output_errors():
        raise OSError(28, "No space left on device")
    with pytest.raises(BrokenPipeError), output_errors():
        raise BrokenPipeError
