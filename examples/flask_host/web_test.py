"""A web test: requests in their order, each with what is expected of its answer."""

import time
from typing import Any

import httpx

from execution_logger import LogCategory, execution_logger
from flask_host.runs import Attempt
from flask_host.schemas import Expectation, Script, Step
from flask_host.target import make_client

log = execution_logger.sync
_TICK_SECONDS = 0.5


def run(attempt: Attempt) -> dict[str, Any]:
    """Make the requests that attempts before this one have not made; the result."""
    steps = Script.model_validate(attempt.definition).requests
    done = list(attempt.run.result.get("requests", []))
    with make_client() as client:
        for step in steps[len(done) :]:
            _wait(attempt, step.wait_seconds)
            done.append(_ask(client, step))
            attempt.report(**_summary(done, len(steps)))
    return _summary(done, len(steps))


def _wait(attempt: Attempt, seconds: float) -> None:
    for pause in (seconds % _TICK_SECONDS, *[_TICK_SECONDS] * int(seconds / _TICK_SECONDS)):
        attempt.report()  # somebody may stop the run meanwhile
        time.sleep(pause)


def _summary(done: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    failed = sum(bool(each["failures"]) for each in done)
    return {"done": len(done), "of": steps, "failed": failed, "requests": done}


def _ask(client: httpx.Client, step: Step) -> dict[str, Any]:
    name, began_at = f"{step.method} {step.path}", time.perf_counter()
    with log.timed_operation(None, LogCategory.TOOL, name) as timer:
        response = client.request(step.method, step.path, json=step.body)
        timer.set_details({"status": response.status_code})
        failures = _failures(response, step.expect)
        for failure in failures:
            log.error(None, LogCategory.TOOL, f"{name}: {failure}")
    took = round((time.perf_counter() - began_at) * 1000, 1)
    return {"request": name, "status": response.status_code, "milliseconds": took, "failures": failures}


def _failures(response: httpx.Response, expected: Expectation) -> list[str]:
    failures = []
    if response.status_code != expected.status:
        failures.append(f"status {response.status_code} instead of {expected.status}")
    if expected.text is not None and expected.text not in response.text:
        failures.append(f"{expected.text!r} is not in the answer")
    try:
        found = response.json() if expected.fields else {}
    except ValueError:
        return [*failures, "the answer is not JSON"]
    for field, value in expected.fields.items():
        if not isinstance(found, dict) or found.get(field) != value:
            failures.append(f"{field} is not {value!r} in {response.text[:100]}")
    return failures
