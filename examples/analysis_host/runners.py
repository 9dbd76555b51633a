"""The runners: each does one part of an analysis, and returns what it has found."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from analysis_host.model import Model, extract_facts
from execution_logger import LogCategory, execution_logger

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What the runners work on.

    Attributes:
        session_id: the session, which is the run in the log.
        request: what the user has sent.
        documents: the texts of those that are there.
        results: what the runners before have found, by their names.
        model: answers questions.
        tell: which share a runner has done, and with what.
    """

    session_id: str
    request: dict[str, Any]
    documents: dict[str, str]
    results: dict[str, Result]
    model: Model
    tell: Callable[[float, str], Awaitable[None]]


async def analyse_intent(case: Case) -> Result:
    """Find out what the user wants, and whose side we are on."""
    return {"intents": await case.model.intents(), "position": case.request["case_position"]}


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
    plan = case.results["CurriculumDesign"]
    missing = case.results["DocumentReview"]["missing"]
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
    for name in RUNNERS:
        if name not in results:
            return name
    plan, verdict = results["CurriculumDesign"], results["Validation"]
    if verdict["revision"] < plan["revision"]:
        return "Validation"
    return "CurriculumDesign" if verdict["problems"] and plan["revision"] == 1 else None
