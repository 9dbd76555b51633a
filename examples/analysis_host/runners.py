"""The runners: each does one part of an analysis, and returns what it has found."""

import asyncio
import re
from contextlib import suppress

from celery import current_task

from analysis_host import store
from analysis_host.settings import BROKER_AWAY, STEP_SECONDS
from analysis_host.store import Json, Session
from execution_logger import LogCategory, execution_logger

TRIES = 3
INTENTS = {"damages": ("damage", "赔偿"), "termination": ("terminat", "解除"), "appeal": ("appeal", "上诉")}


class Case:
    """What the runners work on: one attempt at an analysis, which a later one ends."""

    def __init__(self, session: Json, documents: dict[str, str]) -> None:
        self.session_id, self.request = session["session_id"], session["request"]
        self.documents, self.results, self.step = documents, dict(session["results"]), ""
        self.is_mine = (Session.attempt == session["attempt"], Session.status == "running")
        self._text: str = self.request["user_input"].lower()
        said = {word: float(number) for word, number in re.findall(r"\[(\w+)=(\d+)]", self._text)}
        self._busy, self._seconds = said.get("busy", 0), said.get("slow", STEP_SECONDS)

    async def ask(self, question: str, number: int = 1) -> str:
        """What the model says; while it is busy, it is asked again."""
        if answer := await self._answer(question):
            if number > 1:
                await execution_logger.log_retry_complete(None, f"answered at try {number}")
            return answer
        if number == TRIES:
            raise RuntimeError(f"too busy for: {question}")
        message = f"{self.step}: the model is busy, try {number + 1} of {TRIES}"
        await execution_logger.log_retry_start(None, message)
        await self.tell(0, message)
        await asyncio.sleep(0.1 * 2**number)
        return await self.ask(question, number + 1)

    async def _answer(self, question: str) -> str | None:
        """A stand-in for a language model, which may be busy: put yours in its place."""
        await asyncio.sleep(self._seconds)
        if "[refuse]" in self._text:
            raise RuntimeError(f"no answer to: {question}")
        self._busy -= 1
        return None if self._busy >= 0 else self._text

    async def tell(self, share: float, message: str) -> None:
        """Keep what was found, and tell which share of its step a runner has done, and with what."""
        percent = min(99, round(100 * (len(self.results) + share) / len(RUNNERS)))
        progress = {"percent": percent, "step": self.step, "message": message}
        await store.change(self.session_id, *self.is_mine, progress=progress, results=self.results)
        await store.tell(self.session_id, "progress", **progress)
        report(progress)


def report(progress: Json) -> None:
    """Show progress to who asks for the Celery task, if this is one and its result backend there."""
    with suppress(*BROKER_AWAY):
        if current_task:
            current_task.update_state(state="PROGRESS", meta=progress)


async def analyse_intent(case: Case) -> Json:
    """Find out what the user wants, and whose side we are on."""
    text = await case.ask("What does the user want?")
    found = [name for name, words in INTENTS.items() if any(word in text for word in words)]
    return {"intents": found or ["assessment"], "position": case.request["case_position"]}


async def review_documents(case: Case) -> Json:
    """Read the documents, and say which are missing."""
    ids = case.request["document_ids"]
    for number, document_id in enumerate(ids, 1):
        if document_id in case.documents:
            await case.ask(f"What does {document_id} say?")
            await execution_logger.log_tool_call(
                None, "DocumentReview", "documents", f"{document_id} is read"
            )
        else:
            await execution_logger.warning(None, LogCategory.AGENT, f"The document {document_id} is missing")
        await case.tell(number / len(ids), document_id)
    words = sum(len(text.split()) for text in case.documents.values())
    return {"words": words, "missing": [each for each in ids if each not in case.documents]}


async def evaluate_evidence(case: Case) -> Json:
    """Gather the facts, and say how strong the evidence is."""
    await case.ask("How strong is the evidence?")
    facts = extract_facts("\n".join(case.documents.values()))
    return {**facts, "strength": "strong" if all(facts.values()) else "weak"}


def extract_facts(text: str) -> Json:
    """The dates (2024-03-01) and amounts (120,000) in a text."""
    patterns = {"dates": r"\b\d{4}-\d\d-\d\d\b", "amounts": r"\b\d{1,3}(?:,\d{3})+\b"}
    return {name: sorted(set(re.findall(pattern, text))) for name, pattern in patterns.items()}


async def design_curriculum(case: Case) -> Json:
    """Plan the stages of what is to be done; with what the validation has found, if it has."""
    await case.ask("What is to be done?")
    problems = case.results.pop("Validation", {}).get("problems", [])  # the plan is to be validated again
    stages = [f"argue {intent}" for intent in case.results["IntentAnalysis"]["intents"]]
    revision = case.results.get("CurriculumDesign", {}).get("revision", 0) + 1
    return {"revision": revision, "stages": [*(f"obtain {each}" for each in problems), *stages]}


async def validate(case: Case) -> Json:
    """Hold the plan against what is missing."""
    await case.ask("Does the plan stand?")
    plan, missing = case.results["CurriculumDesign"], case.results["DocumentReview"]["missing"]
    problems = [each for each in missing if f"obtain {each}" not in plan["stages"]]
    return {"revision": plan["revision"], "problems": problems}


RUNNERS = {
    "IntentAnalysis": analyse_intent,
    "DocumentReview": review_documents,
    "EvidenceEvaluation": evaluate_evidence,
    "CurriculumDesign": design_curriculum,
    "Validation": validate,
}


def next_runner(results: dict[str, Json]) -> str | None:
    """The brain's decision: the first that has not run yet; a plan with problems is made once more."""
    if waiting := [name for name in RUNNERS if name not in results]:
        return waiting[0]
    verdict = results["Validation"]
    return "CurriculumDesign" if verdict["problems"] and verdict["revision"] == 1 else None
