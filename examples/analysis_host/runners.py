"""The runners: each does one part of an analysis, and returns what it has found."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from analysis_host.settings import STEP_SECONDS
from execution_logger import LogCategory, execution_logger

INTENTS = {"damages": ("damage", "赔偿"), "termination": ("terminat", "解除"), "appeal": ("appeal", "上诉")}
Result = dict[str, Any]


class BusyError(Exception):
    """The model takes no questions now: worth another try."""


class Model:
    """A stand-in for a language model, so that the example needs no account: put yours in its place.

    It fails as one does. Words in brackets in the user's input have it do so: `[busy=2]` turns two questions
    away, `[refuse]` every one, and `[slow=20]` takes 20 seconds for each.
    """

    def __init__(self, user_input: str) -> None:
        self._text = user_input.lower()
        self._busy = self._number("busy", 0)

    async def ask(self, question: str) -> str:
        """Let the model think about something; BusyError is worth another try."""
        await asyncio.sleep(self._number("slow", STEP_SECONDS))
        if self._busy > 0:
            self._busy -= 1
            raise BusyError("too many requests")
        if "[refuse]" in self._text:
            raise RuntimeError(f"no answer to: {question}")
        return self._text

    def _number(self, word: str, default: float) -> float:
        found = re.search(rf"\[{word}=(\d+)]", self._text)
        return float(found[1]) if found else default


@dataclass(frozen=True)
class Case:
    """What the runners work on; `tell` is told which share one has done, and with what."""

    session_id: str
    request: Result
    documents: dict[str, str]
    results: dict[str, Result]
    model: Model
    tell: Callable[[float, str], Awaitable[None]]


async def analyse_intent(case: Case) -> Result:
    """Find out what the user wants, and whose side we are on."""
    text = await case.model.ask("What does the user want?")
    found = [name for name, words in INTENTS.items() if any(word in text for word in words)]
    return {"intents": found or ["assessment"], "position": case.request["case_position"]}


async def review_documents(case: Case) -> Result:
    """Read the documents, and say which are missing."""
    ids = case.request["document_ids"]
    for number, document_id in enumerate(ids, 1):
        if text := case.documents.get(document_id):
            await case.model.ask(f"What does {document_id} say?")
            message = f"{document_id}: {len(text)} characters read"
            await execution_logger.log_tool_call(case.session_id, "DocumentReview", "documents", message)
        else:
            message = f"The document {document_id} is missing"
            await execution_logger.warning(case.session_id, LogCategory.AGENT, message)
        await case.tell(number / len(ids), document_id)
    words = sum(len(text.split()) for text in case.documents.values())
    return {"words": words, "missing": [each for each in ids if each not in case.documents]}


async def evaluate_evidence(case: Case) -> Result:
    """Gather the facts, and say how strong the evidence is."""
    await case.model.ask("How strong is the evidence?")
    facts = extract_facts("\n".join(case.documents.values()))
    return {**facts, "strength": "strong" if all(facts.values()) else "weak"}


def extract_facts(text: str) -> Result:
    """The dates (2024-03-01) and amounts (120,000) in a text."""
    patterns = {"dates": r"\b\d{4}-\d\d-\d\d\b", "amounts": r"\b\d{1,3}(?:,\d{3})+\b"}
    return {name: sorted(set(re.findall(pattern, text))) for name, pattern in patterns.items()}


async def design_curriculum(case: Case) -> Result:
    """Plan the stages of what is to be done; with what the validation has found, if it has."""
    await case.model.ask("What is to be done?")
    problems = case.results.get("Validation", {}).get("problems", [])
    stages = [f"argue {intent}" for intent in case.results["IntentAnalysis"]["intents"]]
    revision = case.results.get("CurriculumDesign", {}).get("revision", 0) + 1
    return {"revision": revision, "stages": [*(f"obtain {each}" for each in problems), *stages]}


async def validate(case: Case) -> Result:
    """Hold the plan against what is missing."""
    await case.model.ask("Does the plan stand?")
    plan, missing = case.results["CurriculumDesign"], case.results["DocumentReview"]["missing"]
    problems = [each for each in missing if f"obtain {each}" not in plan["stages"]]
    return {"revision": plan["revision"], "problems": problems}


RUNNERS: dict[str, Callable[[Case], Awaitable[Result]]] = {
    "IntentAnalysis": analyse_intent,
    "DocumentReview": review_documents,
    "EvidenceEvaluation": evaluate_evidence,
    "CurriculumDesign": design_curriculum,
    "Validation": validate,
}


def next_runner(results: dict[str, Result]) -> str | None:
    """The brain's decision: the first that has not run yet; a plan with problems is made once more."""
    if waiting := [name for name in RUNNERS if name not in results]:
        return waiting[0]
    plan, verdict = results["CurriculumDesign"], results["Validation"]
    if verdict["revision"] < plan["revision"]:
        return "Validation"
    return "CurriculumDesign" if verdict["problems"] and plan["revision"] == 1 else None
