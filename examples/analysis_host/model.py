"""A stand-in for a language model, so that the example needs no account: put yours in its place.

It takes its time as one does, and fails as one does. Words in brackets in the user's input have it do so:
`[busy=2]` turns two questions away, `[refuse]` every one, and `[slow=20]` takes 20 seconds for each.
"""

import asyncio
import re

from analysis_host.settings import STEP_SECONDS

_INTENTS = {
    "damages": ("damage", "compensat", "赔偿"),
    "termination": ("terminat", "解除"),
    "appeal": ("appeal", "上诉"),
    "settlement": ("settle", "和解"),
}
_DATE, _AMOUNT = re.compile(r"\b\d{4}-\d\d-\d\d\b"), re.compile(r"\b\d{1,3}(?:,\d{3})+\b")


class BusyError(Exception):
    """The model takes no questions now: worth another try."""


class RefusedError(Exception):
    """The model does not answer this question, however often it is asked."""


class Model:
    """Answers the questions of one analysis; `user_input` is what the user wants to know."""

    def __init__(self, user_input: str) -> None:
        self._text = user_input.lower()
        self._busy = self._number("busy", 0)

    async def ask(self, question: str) -> None:
        """Let the model think about something; it raises BusyError or RefusedError."""
        await asyncio.sleep(self._number("slow", STEP_SECONDS))
        if self._busy > 0:
            self._busy -= 1
            raise BusyError("too many requests")
        if "[refuse]" in self._text:
            raise RefusedError(f"no answer to: {question}")

    async def intents(self) -> list[str]:
        """What the user wants."""
        await self.ask("What does the user want?")
        found = [name for name, words in _INTENTS.items() if any(word in self._text for word in words)]
        return found or ["assessment"]

    def _number(self, word: str, default: float) -> float:
        found = re.search(rf"\[{word}=(\d+)]", self._text)
        return float(found[1]) if found else default


def extract_facts(text: str) -> dict[str, list[str]]:
    """The dates (2024-03-01) and amounts (120,000) in a text."""
    return {"dates": sorted(set(_DATE.findall(text))), "amounts": sorted(set(_AMOUNT.findall(text)))}
