"""Traces and spans of the OpenAI Agents SDK are operations: the real SDK, with a model of our own."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    Model,
    ModelResponse,
    RunConfig,
    RunContextWrapper,
    Runner,
    Usage,
    custom_span,
    function_tool,
    gen_trace_id,
    generation_span,
    input_guardrail,
    set_trace_processors,
    trace,
)
from agents.tracing import (
    Span,
    SpanError,
    agent_span,
    get_trace_provider,
    handoff_span,
    mcp_tools_span,
    response_span,
    speech_group_span,
    speech_span,
    transcription_span,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)

from documents import Document
from doubles import DEADLINE_SECONDS
from execution_logger import ExecutionLogger, LogEntry
from execution_logger import execution_logger as logger
from execution_logger.api.context import innermost, not_left
from execution_logger.integrations import operations
from execution_logger.integrations.openai_agents import OperationTracingProcessor, operation_id_of
from execution_logger.read.tree import Node, tree_of
from execution_logger.testing import MemoryDelivery, capture_entries

PAGE = Document("docs/integrations/openai-agents.md")
MakeLogger = Callable[..., ExecutionLogger]
sync = logger.sync
_numbers = count()

set_trace_processors([])  # the one that is there by default sends all to the network


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEntry]]:
    """What the ready instance records, in English."""
    monkeypatch.setenv("EXECUTION_LOGGER_LANGUAGE", "en")
    with capture_entries() as entries:
        yield entries


@pytest.fixture
def install() -> Iterator[Callable[..., OperationTracingProcessor]]:
    """Makes a processor the only one."""

    def make(**options: Any) -> OperationTracingProcessor:
        processor = OperationTracingProcessor(**options)
        set_trace_processors([processor])
        return processor

    yield make
    set_trace_processors([])
    assert not_left(innermost.get()) is None, "a span has left something in the context"


@pytest.fixture
def processor(install: Callable[..., OperationTracingProcessor]) -> OperationTracingProcessor:
    """A processor that is the only one."""
    return install()


@pytest.fixture
def loop_of_the_thread() -> Iterator[None]:
    """The SDK would make one, and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


class ScriptedModel(Model):
    """Answers what it is told to, or raises it, one after the other; records a generation as models do."""

    def __init__(self, *answers: ResponseOutputItem | Exception) -> None:
        self._answers = iter(answers)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """The next answer."""
        with generation_span(model="scripted-1", input=[{"content": "a secret question"}]) as span:
            answer = next(self._answers)
            if isinstance(answer, Exception):
                raise answer
            span.span_data.usage = {"input_tokens": 7, "output_tokens": 2}
            span.span_data.output = [{"content": "a secret answer"}]
            usage = Usage(requests=1, input_tokens=7, output_tokens=2, total_tokens=9)
            return ModelResponse(output=[answer], usage=usage, response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The next answer, in one piece."""
        answer = await self.get_response(*args, **kwargs)
        response = Response.model_construct(id="r", output=answer.output, usage=None)
        yield ResponseCompletedEvent.model_construct(type="response.completed", response=response)


def says(text: str) -> ResponseOutputMessage:
    """A last answer."""
    part = ResponseOutputText(annotations=[], text=text, type="output_text")
    return ResponseOutputMessage(id="m", content=[part], role="assistant", status="completed", type="message")


def calls(name: str, arguments: str = "{}") -> ResponseFunctionToolCall:
    """The call of a tool, or a handoff."""
    return ResponseFunctionToolCall(
        call_id=f"call-{next(_numbers)}", name=name, arguments=arguments, type="function_call"
    )


def shown(entries: list[LogEntry]) -> list[Any]:
    """The whole tree: operations as a list of their names, states, and what is within them."""

    def of(item: LogEntry | Node) -> Any:
        if isinstance(item, LogEntry):
            return item.message
        return [f"{item.name}: {item.state}", *map(of, item.items())]

    return [of(item) for item in tree_of(entries).items()]


def ends(entries: list[LogEntry], step: str) -> list[LogEntry]:
    """The entries that end operations of this name."""
    return [entry for entry in entries if entry.step == step and entry.duration_ms is not None]


def team() -> Agent[None]:
    """An agent with a tool that fails the first time, which hands off to another one."""
    failures = iter([ConnectionError("no answer from the scales")])

    @function_tool(failure_error_function=lambda _, error: str(error))
    def weigh(order: str) -> str:
        """Weigh an order."""
        sync.info(None, "tool", "weighing")
        with logger.sync.timed_operation(None, "tool", "ask the scales"):
            if failure := next(failures, None):
                raise failure
        return "3 kg"

    carrier = Agent(name="Carrier", model=ScriptedModel(says("sent")))
    order = '{"order": "a secret order"}'
    answers = calls("weigh", order), calls("weigh", order), calls("transfer_to_carrier")
    return Agent(name="Packer", model=ScriptedModel(*answers), tools=[weigh], handoffs=[carrier])


GENERATION = ["generation: done"]
TREE_OF_TEAM = [
    "Agent workflow: done",
    [
        "Agent workflow: done",  # the SDK calls the task as the workflow
        [
            "Packer: done",
            [
                "turn: done",
                GENERATION,
                ["weigh: failed", "weighing", ["ask the scales: failed"]],
            ],
            ["turn: done", GENERATION, ["weigh: done", "weighing", ["ask the scales: done"]]],
            ["turn: done", GENERATION, ["handoff: done"]],
        ],
        ["Carrier: done", ["turn: done", GENERATION]],
    ],
]


# A run of agents ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("processor")
async def test_a_team(entries: list[LogEntry]) -> None:
    """A tool that fails, its retry and a handoff are one tree within the host's run, its own entries too."""
    with logger.run("task-1", "order"):
        result = await Runner.run(team(), "a secret order")
    assert result.final_output == "sent"
    assert shown(entries) == [["order: done", TREE_OF_TEAM]]
    assert {entry.task_id for entry in entries} == {"task-1"}


@pytest.mark.usefixtures("processor", "loop_of_the_thread")
def test_run_sync(entries: list[LogEntry]) -> None:
    """The same, where the SDK makes the loop; the trace is within the operation of the host's."""
    with logger.sync.timed_operation("task-1", "workflow", "order"), logger.context(task_id="task-1"):
        Runner.run_sync(team(), "a secret order")
    assert shown(entries) == [["order: done", TREE_OF_TEAM]]


@pytest.mark.usefixtures("processor")
async def test_a_stream(entries: list[LogEntry]) -> None:
    """The same, where the host reads what comes; what it records meanwhile is not within the agents."""
    with logger.run("task-1", "order"):
        result = Runner.run_streamed(team(), "a secret order")
        async for _ in result.stream_events():
            pass
        sync.info(None, "app", "read")
    assert shown(entries) == [["order: done", TREE_OF_TEAM, "read"]]


@pytest.mark.usefixtures("processor")
async def test_runs_at_once(entries: list[LogEntry]) -> None:
    """Each has its own tree."""

    async def handle(task_id: str) -> None:
        with logger.run(task_id, "order"):
            await Runner.run(team(), "an order")

    await asyncio.gather(*(handle(f"task-{number}") for number in range(5)))
    for number in range(5):
        of_one = [entry for entry in entries if entry.task_id == f"task-{number}"]
        assert shown(of_one) == [["order: done", TREE_OF_TEAM]]


@pytest.mark.usefixtures("processor")
async def test_agents_names_and_counts(entries: list[LogEntry]) -> None:
    """All within an agent has its name; tools, models and token counts have names in the details."""
    await Runner.run(team(), "an order")
    assert {entry.agent_name for entry in entries if entry.message == "weighing"} == {"Packer"}
    assert [entry.agent_name for entry in ends(entries, "generation")] == ["Packer"] * 3 + ["Carrier"]
    assert {entry.agent_name for entry in ends(entries, "Agent workflow")} == {None}
    for entry in ends(entries, "generation"):
        details = entry.details or {}
        counts = details["model"], details["input_tokens"], details["output_tokens"]
        assert (entry.category, *counts) == ("agent", "scripted-1", 7, 2)
    for entry in ends(entries, "weigh"):
        assert (entry.category, (entry.details or {})["tool_name"]) == ("tool", "weigh")
    (handoff,) = ends(entries, "handoff")
    assert (handoff.details or {})["to_agent"] == "Carrier"


@pytest.mark.usefixtures("processor")
async def test_a_tool_that_fails(entries: list[LogEntry]) -> None:
    """The error says what the SDK says of it, and why, unless the SDK has redacted that."""
    await Runner.run(team(), "an order")
    failed, _ = ends(entries, "weigh")
    assert (failed.level, failed.message) == (
        "error",
        "weigh failed: Error running tool (non-fatal): no answer from the scales",
    )
    assert (failed.details or {})["error"] == "Error running tool (non-fatal): no answer from the scales"


@pytest.mark.parametrize("content", [False, True])
async def test_content(
    install: Callable[..., OperationTracingProcessor],
    entries: list[LogEntry],
    *,
    content: bool,
) -> None:
    """Prompts, outputs, arguments and results are recorded on demand only."""
    install(content=content)
    await Runner.run(team(), "a secret order")
    texts = [str(entry.details) for entry in entries]
    assert any("secret" in text for text in texts) is content
    done = ends(entries, "weigh")[-1].details or {}
    assert (done.get("input"), done.get("output")) == (
        ('{"order": "a secret order"}', "3 kg") if content else (None, None)
    )


# What ends badly ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("processor")
async def test_a_model_that_fails(entries: list[LogEntry]) -> None:
    """What an exception has left has failed, up to the trace."""
    agent = Agent(name="Packer", model=ScriptedModel(ConnectionError("no answer")))
    with pytest.raises(ConnectionError):
        await Runner.run(agent, "an order")
    states = {node.name: node.state.value for node in tree_of(entries).nodes()}
    assert set(states.values()) == {"failed"}
    assert (ends(entries, "generation")[0].details or {})["error"] == "no answer"


@pytest.mark.usefixtures("processor")
async def test_a_run_that_is_cancelled(entries: list[LogEntry]) -> None:
    """It is no failure."""
    waits, is_waiting = asyncio.Event(), asyncio.Event()

    @function_tool
    async def wait() -> str:
        """Wait."""
        is_waiting.set()
        await waits.wait()
        return ""

    agent = Agent(name="Packer", model=ScriptedModel(calls("wait")), tools=[wait])
    task = asyncio.create_task(Runner.run(agent, "an order"))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {node.state.value for node in tree_of(entries).nodes() if node.name != "generation"} == {
        "cancelled"
    }


@pytest.mark.usefixtures("processor")
async def test_in_a_handler_of_an_exception(entries: list[LogEntry]) -> None:
    """What the host handles meanwhile has not failed here."""
    try:
        raise KeyError("order")  # noqa: TRY301 - it is to be handled here
    except KeyError:
        await Runner.run(Agent(name="Packer", model=ScriptedModel(says("done"))), "an order")
    assert {node.state.value for node in tree_of(entries).nodes()} == {"done"}


@pytest.mark.usefixtures("processor")
async def test_a_guardrail(entries: list[LogEntry]) -> None:
    """It tells whether it was triggered, and its agent has failed."""

    @input_guardrail
    async def orders_only(
        context: RunContextWrapper[None], agent: Agent[Any], given: Any
    ) -> GuardrailFunctionOutput:
        """Refuse."""
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    agent = Agent(name="Packer", model=ScriptedModel(says("done")), input_guardrails=[orders_only])
    with pytest.raises(InputGuardrailTripwireTriggered):
        await Runner.run(agent, "an order")
    (guardrail,) = ends(entries, "orders_only")
    assert (guardrail.details or {})["triggered"] is True
    assert ends(entries, "Packer")[0].level == "error"


# The run ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("processor")
async def test_the_run(entries: list[LogEntry]) -> None:
    """That of the context, or else the group of the trace, or the trace, also of the host's own entries."""
    trace_id = gen_trace_id()
    for config in (
        RunConfig(trace_id=trace_id),
        RunConfig(trace_id=gen_trace_id(), group_id="chat-1"),
    ):
        await Runner.run(team(), "an order", run_config=config)
    with logger.context(task_id="task-1"):
        await Runner.run(team(), "an order", run_config=RunConfig(group_id="chat-1"))
    assert list(dict.fromkeys(entry.task_id for entry in entries)) == [trace_id, "chat-1", "task-1"]


def test_the_run_that_a_logger_is_bound_to(
    install: Callable[..., OperationTracingProcessor], make_logger: MakeLogger
) -> None:
    """It is that of all operations."""
    delivery = MemoryDelivery()
    own = make_logger(delivery)
    install(logger=own.bind(task_id="task-1"))
    with trace("order", group_id="chat-1"), custom_span("pack"):
        pass
    own.sync.flush()
    assert [entry["task_id"] for entry in delivery.entries] == ["task-1"] * 4


# Single spans -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("processor")
def test_ids(entries: list[LogEntry]) -> None:
    """They are made of those of the SDK, which are in the details."""
    with trace("order", metadata={"shop": "s-1"}) as outer, custom_span("pack", {"items": 3}) as span:
        pass
    begin, pack, _, end = entries
    assert begin.operation_id == end.operation_id == pack.parent_id == operation_id_of(outer.trace_id)
    assert pack.operation_id == operation_id_of(outer.trace_id, span.span_id)
    assert UUID(pack.operation_id).version == 5
    assert begin.details == {"kind": "trace", "trace_id": outer.trace_id, "metadata": {"shop": "s-1"}}
    assert pack.details == {"kind": "custom", "trace_id": outer.trace_id, "span_id": span.span_id}
    assert (begin.category, pack.category) == ("workflow", "workflow")


def test_every_kind_of_span(
    install: Callable[..., OperationTracingProcessor], entries: list[LogEntry]
) -> None:
    """Each has the SDK's name for it, or its own."""
    install(content=True)
    usage = ResponseUsage.model_construct(input_tokens=5, output_tokens=6, total_tokens=11)
    response = Response.model_construct(id="r-1", model="m-1", usage=usage, output=[says("done")])
    with trace("order"):
        with response_span() as span:
            span.span_data.response, span.span_data.input = response, "question"
        for other in (
            mcp_tools_span(server="shop", result=["find"]),
            handoff_span("a", "b"),
            transcription_span("m-2", "sound"),
            speech_group_span("text"),
            speech_span("m-3", "text"),
        ):
            with other:
                pass
    steps = ["response", "mcp_tools", "handoff", "transcription", "speech_group", "speech"]
    assert [entry.step for entry in entries if entry.duration_ms is not None] == [*steps, "order"]
    assert {entry.category for entry in ends(entries, "mcp_tools")} == {"tool"}
    details = ends(entries, "response")[0].details or {}
    assert (details["model"], details["input_tokens"], details["output_tokens"]) == ("m-1", 5, 6)
    assert (details["response_id"], details["input"]) == ("r-1", "question")
    assert details["output"][0]["content"][0]["text"] == "done"


@pytest.mark.usefixtures("processor")
def test_spans_side_by_side(entries: list[LogEntry]) -> None:
    """One that is not the current one is not around the next; one with a parent is within that."""
    with trace("order"), agent_span("Packer") as packer:
        first, second = custom_span("first"), custom_span("second")
        first.start()
        second.start()
        third = custom_span("third", parent=first)
        third.start()
        for span in (first, second, third):
            span.finish()
        with custom_span("last"):
            sync.info(None, "app", "within the last")
    assert packer.error is None
    assert shown(entries) == [
        [
            "order: done",
            [
                "Packer: done",
                ["first: done", ["third: done"]],
                ["second: done"],
                ["last: done", "within the last"],
            ],
        ]
    ]


@pytest.mark.usefixtures("processor")
def test_an_error_of_the_hosts(entries: list[LogEntry]) -> None:
    """Its data are content, but for the text of the error."""
    with trace("order"), custom_span("pack") as span:
        span.set_error(SpanError(message="too heavy", data={"order": "a secret order"}))
    (end,) = ends(entries, "pack")
    assert (end.level, end.message) == ("error", "pack failed: too heavy")
    assert "secret" not in str(end.details)


# What the host is spared --------------------------------------------------------------------------


def test_what_raises(
    processor: OperationTracingProcessor,
    entries: list[LogEntry],
    internal_errors: list[tuple[str, BaseException]],
) -> None:
    """Data that cannot be read are no error of the host's, and what comes after is recorded."""

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

    hostile: Any = Hostile()
    for hook in (processor.on_trace_start, processor.on_span_start, processor.on_span_end):
        hook(hostile)
    with trace("order"):
        span = custom_span("pack")
        span.start(mark_as_current=True)
        broken: Any = span
        broken._error = object()  # no dict, as it is to be
        span.finish(reset_current=True)
        with custom_span("next"):
            pass
    assert internal_errors
    internal_errors.clear()
    assert shown(entries) == [["order: done", ["pack: running"], ["next: done"]]]


def test_no_memory_of_what_never_ends(
    processor: OperationTracingProcessor, entries: list[LogEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that nobody ends is forgotten when there are too many newer ones."""
    monkeypatch.setattr(operations, "MOST_OPEN", 10)
    with trace("order"):
        for number in range(100):
            contextvars.copy_context().run(custom_span(str(number)).start)
    assert len(processor._operations) == 9
    assert shown(entries) == [["order: done", *([f"{number}: running"] for number in range(100))]]


def test_shutdown(processor: OperationTracingProcessor, entries: list[LogEntry]) -> None:
    """It ends what has begun, and begins nothing; nothing is waited for."""
    with trace("order"):
        get_trace_provider().force_flush()
        processor.shutdown()
        with custom_span("pack"):
            pass
    assert shown(entries) == [["order: done"]]


def test_a_span_of_a_trace_that_began_elsewhere(
    processor: OperationTracingProcessor, entries: list[LogEntry]
) -> None:
    """It is within the operation that the trace has there."""
    set_trace_processors([])
    with trace("order") as outer:
        set_trace_processors([processor])
        span: Span[Any] = custom_span("pack")
        with span:
            pass
    assert {entry.parent_id for entry in entries} == {operation_id_of(outer.trace_id)}


# The page -----------------------------------------------------------------------------------------


async def test_the_example_of_the_page(
    entries: list[LogEntry], install: Callable[..., OperationTracingProcessor]
) -> None:
    """It does what the page says."""
    example = PAGE.run_example("openai-agents")
    example["packer"].model = ScriptedModel(calls("weigh", '{"order": "o-1"}'), says("3 kg"))
    assert await example["handle"]("task-1", "o-1") == "3 kg"
    weigh = next(node for node in tree_of(entries).nodes() if node.name == "weigh")
    assert [entry.message for entry in weigh.entries] == ["weighing"]
    assert {entry.task_id for entry in entries} == {"task-1"}
