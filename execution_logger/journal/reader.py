"""Reading the lines of a journal in the order of their numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from execution_logger.journal.segment import Segment

_LEAST_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with consecutive numbers."""

    first: int
    lines: tuple[bytes, ...]
    entry_of: Callable[[bytes], bytes | None]

    @property
    def next(self) -> int:
        """The number that comes next."""
        return self.first + len(self.lines)

    def split(self, most: int | None = None) -> tuple[list[bytes], list[bytes]]:
        """The entries of the first `most` lines, in their order, and the lines that are damaged."""
        entries: list[bytes] = []
        damaged: list[bytes] = []
        for line in self.lines[:most]:
            if (entry := self.entry_of(line)) is None:
                damaged.append(line)
            else:
                entries.append(entry)
        return entries, damaged


class Reader:
    """Reads on from where it was, at full speed; elsewhere it has to look for the line first.

    Args:
        segments: in their order; they may change meanwhile.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._segment: Segment | None = None
        self._number = 0
        self._offset = 0

    def read(self, number: int, max_lines: int, max_bytes: int) -> Lines | None:
        """Lines from `number` on, or from the next one that is there; None behind the last one.

        At least one line, whatever its size, and never more than one segment has.
        """
        found = self._find(number)
        if found is None:
            return None
        segment, end = found
        self._go_to(segment, max(number, segment.first))
        max_lines = min(max_lines, end - self._number)
        chunk = self._read_chunk(segment, max_lines, max_bytes)
        lines: list[bytes] = []
        size_bytes = 0
        for line in chunk[:-1].split(b"\n")[:max_lines]:
            if lines and size_bytes + len(line) > max_bytes:
                break
            lines.append(line)
            size_bytes += len(line) + 1
        found_lines = Lines(self._number, tuple(lines), segment.entry_of)
        self._number += len(lines)
        self._offset += size_bytes
        return found_lines

    def rest_of_segment(self, number: int) -> int:
        """How many lines there should be from `number` to the end of its segment."""
        found = self._find(number)
        return 0 if found is None else found[1] - number

    def _find(self, number: int) -> tuple[Segment, int] | None:
        """The segment that has the line, or else the next one; and the number at which its lines end.

        Where segments overlap the later one counts: the earlier one has a line whose call never returned.
        """
        segments = [segment for segment in tuple(self._segments) if segment.count]
        for segment, following in zip_longest(segments, segments[1:]):
            end = segment.next if following is None else min(segment.next, following.first)
            if number < end:
                return segment, end
        return None

    def _go_to(self, segment: Segment, number: int) -> None:
        if self._segment is segment and self._number == number:
            return
        if self._segment is not None and self._segment is not segment:
            self._segment.release()
        self._segment, self._number, self._offset = segment, segment.first, 0
        while self._number < number:
            chunk = self._read_chunk(segment, number - self._number, segment.size_bytes)
            lines = chunk.split(b"\n", number - self._number)
            self._number += len(lines) - 1
            self._offset += len(chunk) - len(lines[-1])

    def _read_chunk(self, segment: Segment, lines: int, max_bytes: int) -> bytes:
        """At least one complete line, and not much more than the lines that are asked for."""
        rest_bytes = segment.size_bytes - self._offset
        usual_bytes = lines * (segment.size_bytes // segment.count + 1)
        size_bytes = max(min(usual_bytes, max_bytes), _LEAST_CHUNK_BYTES)
        while True:
            chunk = segment.read(self._offset, min(size_bytes, rest_bytes))
            end = chunk.rfind(b"\n") + 1
            if end:
                return chunk[:end]
            if size_bytes >= rest_bytes:
                raise OSError(f"{segment.path}: its lines cannot be read any more")
            size_bytes *= 2
