"""Crews, agents and flows of CrewAI's: operations, by the real package with a fake model."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_TRACING_ENABLED": "false",
}

pytest.importorskip("crewai", reason="it takes minutes to install: scripts/test.sh frameworks")

from crewai import Agent, Crew, Task
from crewai.events import crewai_event_bus
from crewai.events.types.flow_events import FlowFinishedEvent, FlowStartedEvent
from crewai.events.types.llm_events import LLMCallType
from crewai.events.types.tool_usage_events import ToolUsageErrorEvent, ToolUsageStartedEvent
from crewai.flow.flow import Flow, listen, start
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

from documents import Document
from execution_logger import execution_logger as logger
from execution_logger.integrations import operations
from execution_logger.integrations.crewai import OperationEventListener
from execution_logger.read.tree import tree_of
from recorded import Recorded

pytestmark = pytest.mark.filterwarnings("ignore")  # they are about CrewAI and what it uses

PAGE = Document("docs/integrations/crewai.md")
sync = logger.sync


class Model(BaseLLM):
    """Answers from a list, and raises what is an exception."""

    answers: list[Any] = []

    def call(self, messages: Any, *_: Any, **about: Any) -> Any:
        """The next one."""
        place = {key: about.get(key) for key in ("from_task", "from_agent")}
        self._emit_call_started_event(messages=messages, **place)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            self._emit_call_failed_event(str(answer), **place)
            raise answer
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        self._emit_call_completed_event(
            response=answer, call_type=LLMCallType.LLM_CALL, messages=messages, usage=usage, **place
        )
        return answer

    async def acall(self, *arguments: Any, **about: Any) -> Any:
        """The next one."""
        return self.call(*arguments, **about)


def calls(thing: str) -> str:
    """The answer that has the tool called."""
    return f'Thought: a secret thought\nAction: weigh\nAction Input: {{"thing": "{thing}"}}'


DONE = "Thought: I now know the final answer\nFinal Answer: a secret answer"


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """Its bus starts the threads at the first event, and keeps them."""
    crewai_event_bus._ensure_executor_initialized()


@pytest.fixture
def listen_to(recorded: Recorded) -> Iterator[Callable[..., OperationEventListener]]:
    """Makes a listener; afterwards nobody listens, CrewAI's own included."""
    with crewai_event_bus.scoped_handlers():
        yield OperationEventListener
        settle()


def settle() -> None:
    """Wait until all listeners have been told."""
    assert crewai_event_bus.flush(30)


@tool
def weigh(thing: str) -> str:
    """Weigh a thing."""
    sync.info(None, "tool", "on the scales")
    if thing == "heavy":
        raise ConnectionError("no answer from the scales")
    with logger.timed_operation(None, "tool", "lifting"):
        sync.info(None, "tool", "lifted")
    return "a secret result"


def make_crew(*answers: Any) -> Any:
    """One with an agent that has a tool."""
    model = Model(model="m-1", answers=list(answers))
    packer = Agent(role="Packer", goal="Pack", backstory="Careful", tools=[weigh], llm=model)
    packing = Task(name="packing", description="a secret prompt", expected_output="kg", agent=packer)
    return Crew(name="order", agents=[packer], tasks=[packing])


ANSWERS = (calls("heavy"), calls("light"), DONE)
SCALES = "on the scales"


def without_executors(tree: Any) -> Any:
    """The same without the flow that newer versions run an agent by, and without what they say besides."""
    if not isinstance(tree, list):
        return tree
    items = [without_executors(item) for item in tree if not str(item).startswith("tool_failure_detected")]
    found = []
    for item in items:
        found += item[1:] if isinstance(item, list) and item[0].startswith("AgentExecutor: ") else [item]
    return found


def attempts(node: list[Any]) -> list[Any]:
    """The same with one call of a tool for all that CrewAI has made of it by itself."""
    found: list[Any] = []
    for item in node:
        each = attempts(item) if isinstance(item, list) else item
        if not (isinstance(each, list) and each[0] == "weigh: failed" and each in found):
            found.append(each)
    return found


def cut(node: Any) -> Any:
    """The same with one note for all attempts of the tool's."""
    if not isinstance(node, list):
        return node
    found: list[Any] = []
    for item in map(cut, node):
        if item != SCALES or SCALES not in found:
            found.append(item)
    return found


ORDER = [
    "order: done",
    [
        "packing: done",
        [
            "Packer: done",
            ["m-1: done"],
            ["weigh: failed", SCALES],
            ["m-1: done"],
            ["weigh: done", SCALES, ["lifting: done", "lifted"]],
            ["m-1: done"],
        ],
    ],
]


def shown(recorded: Recorded) -> list[Any]:
    """The trees, in the words of all versions."""
    settle()
    return [attempts(cut(tree)) for tree in without_executors(recorded.trees)]


# The tree -----------------------------------------------------------------------------------------


def test_the_example_of_the_page(
    recorded: Recorded, listen_to: Callable[..., OperationEventListener]
) -> None:
    """The crew, its task, the agent, the tool and an entry of our own are one tree of the run."""
    example = PAGE.run_example("crewai")
    answer = 'Thought: weigh\nAction: weigh\nAction Input: {"order": "o-1"}'
    example["handle"]("task-1", Model(model="m-1", answers=[answer, DONE]))
    assert shown(recorded) == [
        [
            "run: done",
            [
                "order: done",
                [
                    "packing: done",
                    ["Packer: done", ["m-1: done"], ["weigh: done", SCALES], ["m-1: done"]],
                ],
            ],
        ]
    ]
    assert {entry.task_id for entry in recorded.entries} == {"task-1"}


def test_a_crew(recorded: Recorded, listen_to: Callable[..., OperationEventListener]) -> None:
    """A tool that fails and is called again, and an operation of our own in it."""
    listen_to()
    with logger.run("task-1"), logger.timed_operation(None, "workflow", "around"):
        make_crew(*ANSWERS).kickoff()
    assert shown(recorded) == [["run: done", ["around: done", ORDER]]]
    assert {entry.task_id for entry in recorded.entries} == {"task-1"}


def test_an_agent_that_tries_again(
    recorded: Recorded, listen_to: Callable[..., OperationEventListener]
) -> None:
    """What its model has failed with is there, and all of it has come to its end that CrewAI says has."""
    listen_to()
    with logger.run("task-1"):
        make_crew(ConnectionError("the model is away"), DONE).kickoff()
    settle()
    nodes = {node.name: node.state for node in tree_of(recorded.entries).nodes()}
    assert (nodes["order"], nodes["packing"], nodes["Packer"]) == ("done", "done", "done")
    (failed, *_) = [entry for entry in recorded.entries if entry.level == "error"]
    assert failed.message == "m-1 failed: the model is away"


@pytest.mark.parametrize("call", ["kickoff_async", "akickoff"])
async def test_a_crew_in_a_loop(
    recorded: Recorded, listen_to: Callable[..., OperationEventListener], call: str
) -> None:
    """The same tree, by both ways to await it."""
    listen_to()
    async with logger.run("task-1"):
        await getattr(make_crew(*ANSWERS), call)()
    assert shown(recorded) == [["run: done", ORDER]]


async def test_crews_at_the_same_time(
    recorded: Recorded, listen_to: Callable[..., OperationEventListener]
) -> None:
    """One listener, many runs: each is a tree of its own."""
    listen_to()

    async def handle(number: int) -> None:
        async with logger.run(f"task-{number}"):
            await make_crew(*ANSWERS).kickoff_async()

    await asyncio.gather(*map(handle, range(3)))
    assert shown(recorded) == [["run: done", ORDER]] * 3
    tree = tree_of(recorded.entries)
    assert all(len({entry.task_id for entry in node.own}) == 1 for node in tree.nodes())


def test_a_flow(recorded: Recorded, listen_to: Callable[..., OperationEventListener]) -> None:
    """Its methods are within it, a crew is within the operation of ours that it runs in."""

    class Order(Flow):
        @start()
        def pack(self) -> str:
            with logger.timed_operation(None, "workflow", "by hand"):
                return str(make_crew(DONE).kickoff())

        @listen(pack)
        def send(self, _: str) -> None:
            sync.info(None, "workflow", "sent")
            raise KeyError("no address")

    listen_to()
    with pytest.raises(KeyError):
        Order().kickoff()
    (tree,) = shown(recorded)
    assert tree[1:] == [
        [
            "pack: done",
            [
                "by hand: done",
                ["order: done", ["packing: done", ["Packer: done", ["m-1: done"]]]],
            ],
        ],
        ["send: failed", "sent"],
    ]
    failed = recorded.of("send")[-1]
    assert "in send" in (failed.details or {})["exception"]["traceback"]


def test_the_order_of_the_rows(recorded: Recorded, listen_to: Callable[..., OperationEventListener]) -> None:
    """It is that of the events, while ten threads of CrewAI's call other listeners."""
    listen_to()
    both = threading.Barrier(2)

    @crewai_event_bus.on(FlowStartedEvent)
    def slow(_: Any, event: Any) -> None:
        if event.flow_name == "0":
            both.wait(30)

    for number in range(50):
        crewai_event_bus.emit(None, FlowStartedEvent(flow_name=str(number)))
    both.wait(30)
    for _ in range(50):
        crewai_event_bus.emit(None, FlowFinishedEvent(flow_name="", state={}))
    settle()
    messages = [entry.message for entry in recorded.entries]
    assert messages == [
        *(f"{number} started" for number in range(50)),
        *(f"{number} completed" for number in reversed(range(50))),
    ]


# What an entry says -------------------------------------------------------------------------------


def test_columns_and_details(recorded: Recorded, listen_to: Callable[..., OperationEventListener]) -> None:
    """Names, categories, agents, models, token counts; no prompts and no outputs."""
    listen_to()
    make_crew(calls("light"), DONE).kickoff(inputs={"order": "a secret order"})
    settle()
    begun, *_ = [entry for entry in recorded.entries if entry.step == "m-1"]
    ended = next(entry for entry in recorded.entries if entry.step == "m-1" and entry.duration_ms is not None)
    assert (begun.category, begun.agent_name) == ("agent", "Packer")
    assert begun.details == {"kind": "llm_call", "model": "m-1"}
    assert ended.details == {"model": "m-1", "input_tokens": 7, "output_tokens": 2}
    begun, ended = recorded.of("weigh")
    assert (begun.category, begun.agent_name) == ("tool", "Packer")
    assert begun.details == {"kind": "tool_usage", "tool_name": "weigh"}
    begun, ended = recorded.of("order")
    assert (begun.category, begun.agent_name, begun.details) == ("workflow", None, {"kind": "crew_kickoff"})
    assert {entry.task_id for entry in recorded.entries if entry.agent_name} == {begun.operation_id}
    assert "secret" not in str(recorded.entries)


def test_content(recorded: Recorded, listen_to: Callable[..., OperationEventListener]) -> None:
    """On demand."""
    listen_to(content=True)
    make_crew(calls("light"), DONE).kickoff(inputs={"order": "a secret order"})
    settle()
    begun, ended = recorded.of("weigh")
    assert "light" in str((begun.details or {})["input"])
    assert "a secret result" in str(ended.details)
    begun, ended = recorded.of("order")
    assert (begun.details or {})["input"] == {"order": "a secret order"}
    assert "a secret answer" in str(ended.details)


# What the host is spared --------------------------------------------------------------------------


def test_an_end_without_its_start(
    recorded: Recorded, listen_to: Callable[..., OperationEventListener]
) -> None:
    """It ends nothing else; an error is not lost."""
    listen_to()
    crewai_event_bus.emit(None, FlowStartedEvent(flow_name="order"))
    about: dict[str, Any] = {"tool_name": "weigh", "tool_args": {}}
    crewai_event_bus.emit(None, ToolUsageErrorEvent(error="no answer", **about))
    settle()
    assert recorded.trees == [["order: running"], "tool_usage_error: no answer"]


def test_what_never_ends(
    recorded: Recorded,
    listen_to: Callable[..., OperationEventListener],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an open operation, and forgotten when there are too many newer ones."""
    monkeypatch.setattr(operations, "MOST_OPEN", 10)
    listener = listen_to()
    for number in range(50):
        crewai_event_bus.emit(None, FlowStartedEvent(flow_name=str(number)))
    settle()
    assert len(listener._operations) == 10
    tree = recorded.trees
    for number in range(49, -1, -1):
        assert tree[0] == [f"{49 - number}: running", *tree[0][1:]]
        tree = tree[0][1:]


def test_nothing_is_raised(
    recorded: Recorded,
    listen_to: Callable[..., OperationEventListener],
    internal_errors: list[tuple[str, BaseException]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What goes wrong here is counted, and CrewAI does not hear of it."""

    class Hostile:
        def __bool__(self) -> bool:
            raise RuntimeError("a host's own mistake")

    listen_to()
    event = ToolUsageStartedEvent(tool_name="weigh", tool_args={})
    object.__setattr__(event, "tool_name", Hostile())
    crewai_event_bus.emit(None, event)
    crewai_event_bus.emit(None, ToolUsageErrorEvent(tool_name="weigh", tool_args={}, error="x"))
    settle()
    assert [where for where, _ in internal_errors] == ["the start of an operation of CrewAI's"]
    assert "error" not in capsys.readouterr().out.lower()
    internal_errors.clear()
