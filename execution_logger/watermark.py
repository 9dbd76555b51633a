"""The watermark: up to which number everything is done, when things are done in any order."""


class Watermark:
    """Everything up to `value` is done; what is done beyond it counts once the gap is closed."""

    __slots__ = ("_beyond", "value")

    def __init__(self, value: int = 0) -> None:
        self.value = value
        self._beyond: dict[int, int] = {}

    def add(self, first: int, count: int) -> bool:
        """The numbers from `first` on are done, `count` of them; return whether the value has grown."""
        before = self.value
        self._beyond[first] = count
        while (done := self._beyond.pop(self.value + 1, None)) is not None:
            self.value += done
        return self.value > before
