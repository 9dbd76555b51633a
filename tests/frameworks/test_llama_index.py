"""Agents, workflows and engines of LlamaIndex's: operations, by the real package with a fake model."""

import asyncio
import contextvars
import inspect
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

pytest.importorskip("llama_index.core", reason="it takes minutes to install: scripts/test.sh frameworks")

from llama_index.core import Settings
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.tools import FunctionTool, ToolSelection
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index.core.workflow.retry_policy import ConstantDelayRetryPolicy

from documents import Document
from execution_logger import execution_logger as logger
from execution_logger.integrations import operations
from execution_logger.integrations.llama_index import OperationSpanHandler
from execution_logger.read.tree import tree_of
from recorded import Recorded

pytestmark = pytest.mark.filterwarnings("ignore")  # they are about LlamaIndex and what it uses

PAGE = Document("docs/integrations/llama-index.md")
USAGE = {"usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
sync = logger.sync


class Model(FunctionCallingLLM):
    """Answers from a list, and raises what is an exception."""

    answers: list[Any] = []

    @property
    def metadata(self) -> LLMMetadata:
        """What it is called."""
        return LLMMetadata(model_name="m-1", is_function_calling_model=True)

    def _next(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @llm_chat_callback()
    def chat(self, messages: Any, **_: Any) -> Any:
        """The next one."""
        return self._next()

    @llm_chat_callback()
    async def achat(self, messages: Any, **_: Any) -> Any:
        """The next one."""
        return self._next()

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **_: Any) -> Any:
        """The next one, as a stream."""

        def stream() -> Iterator[Any]:
            yield self._next()

        return stream()

    @llm_chat_callback()
    async def astream_chat(self, messages: Any, **_: Any) -> Any:
        """The next one, as a stream."""

        async def stream() -> Any:
            yield self._next()

        return stream()

    @llm_completion_callback()
    def complete(self, prompt: Any, formatted: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002 - LlamaIndex's
        """The next one."""
        return CompletionResponse(text=self._next(), raw=USAGE)

    @llm_completion_callback()
    async def acomplete(self, prompt: Any, formatted: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002 - as above
        """The next one."""
        return CompletionResponse(text=self._next(), raw=USAGE)

    stream_complete = astream_complete = complete

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **_: Any
    ) -> Any:
        return {"messages": chat_history or []}

    def get_tool_calls_from_response(self, response: Any, *_: Any, **__: Any) -> Any:
        """Those that the answer asks for."""
        return response.message.additional_kwargs.get("tool_calls", [])


def says(text: str, *calls: ToolSelection) -> ChatResponse:
    """An answer, with calls of tools."""
    about = {"tool_calls": list(calls)}
    message = ChatMessage(role="assistant", content=text, additional_kwargs=about)
    return ChatResponse(message=message, raw=USAGE, delta=text)


def calls(thing: str) -> ChatResponse:
    """The answer that has the tool called."""
    return says("", ToolSelection(tool_id=thing, tool_name="weigh", tool_kwargs={"thing": thing}))


async def weigh(thing: str) -> str:
    """Weigh a thing."""
    sync.info(None, "tool", "on the scales")
    if thing == "heavy":
        raise ConnectionError("no answer from the scales")
    with logger.timed_operation(None, "tool", "lifting"):
        sync.info(None, "tool", "lifted")
    return "a secret result"


@pytest.fixture(scope="module", autouse=True)
def _tokenizer() -> None:
    """One that need not be fetched from the network."""
    Settings.tokenizer = str.split


@pytest.fixture(autouse=True)
def _others() -> Iterator[None]:
    """What a test installs is not there in the next one."""
    dispatcher = get_dispatcher()
    before = list(dispatcher.span_handlers), list(dispatcher.event_handlers)
    yield
    dispatcher.span_handlers, dispatcher.event_handlers = before


@pytest.fixture
def handler(recorded: Recorded) -> OperationSpanHandler:
    """One that is installed."""
    handler = OperationSpanHandler()
    handler.install()
    return handler


def make_agent(*answers: Any, streaming: bool) -> Any:
    """One that has a tool."""
    tools = [FunctionTool.from_defaults(async_fn=weigh)]
    model = Model(answers=list(answers))
    return FunctionAgent(name="Packer", description="Packs", tools=tools, llm=model, streaming=streaming)


NOISE = ("init_run", "setup_agent", "parse_agent_output", "aggregate_tool_results")


def shown(recorded: Recorded) -> list[Any]:
    """The trees, without the steps of agents that do nothing but pass on."""

    def cut(item: Any) -> Any:
        if not isinstance(item, list):
            return item
        return [cut(each) for each in item if not any(f".{name}: " in str(each[0]) for name in NOISE)]

    return [cut(tree) for tree in recorded.trees]


def agent_tree(model: str) -> list[Any]:
    """What becomes of an agent whose tool fails at first."""
    name = "FunctionAgent"
    step_of_model = [f"{name}.run_agent_step: done", [f"Model.{model}: done"]]
    failed = [f"{name}.call_tool: done", ["weigh: failed", "on the scales"]]
    done = [f"{name}.call_tool: done", ["weigh: done", "on the scales", ["lifting: done", "lifted"]]]
    return [f"{name}.run: done", step_of_model, failed, step_of_model, done, step_of_model]


# The tree -----------------------------------------------------------------------------------------


async def test_the_example_of_the_page(recorded: Recorded) -> None:
    """The agent, its steps, its model, the tool and an entry of our own are one tree of the run."""
    example = PAGE.run_example("llama-index")
    call = ToolSelection(tool_id="1", tool_name="weigh", tool_kwargs={"order": "o-1"})
    model = Model(answers=[says("", call), says("3 kg")])
    assert await example["handle"]("task-1", "o-1", model) == "3 kg"
    (tree,) = shown(recorded)
    assert tree[0] == "run: done"
    assert "['weigh: done', 'on the scales']" in str(tree)
    assert {entry.task_id for entry in recorded.entries} == {"task-1"}


@pytest.mark.parametrize(("streaming", "method"), [(True, "astream_chat"), (False, "achat")])
@pytest.mark.usefixtures("handler")
async def test_an_agent(recorded: Recorded, method: str, *, streaming: bool) -> None:
    """A tool that fails and is called again, and an operation of our own in it."""
    agent = make_agent(calls("heavy"), calls("light"), says("a secret answer"), streaming=streaming)
    async with logger.run("task-1"), logger.timed_operation(None, "workflow", "around"):
        await agent.run("a secret prompt")
    # Older versions stream in any case.
    methods = {entry.step for entry in recorded.entries if str(entry.step).startswith("Model.")}
    assert methods in ({f"Model.{method}"}, {"Model.astream_chat"})
    tree = agent_tree(str(methods.pop()).removeprefix("Model."))
    assert [cut_step(each) for each in shown(recorded)] == [["run: done", ["around: done", tree]]]
    assert {entry.task_id for entry in recorded.entries} == {"task-1"}


def cut_step(item: Any) -> Any:
    """The same with all steps under one class's name, which differs between versions."""
    if isinstance(item, list):
        return [cut_step(each) for each in item]
    return re.sub(r"^(BaseWorkflowAgent|AgentWorkflow)\.", "FunctionAgent.", item)


@pytest.mark.usefixtures("handler")
async def test_agents_at_the_same_time(recorded: Recorded) -> None:
    """One handler, many runs: each is a tree of its own."""

    async def handle(number: int) -> None:
        async with logger.run(f"task-{number}"):
            await make_agent(calls("heavy"), calls("light"), says("x"), streaming=True).run("x")

    await asyncio.gather(*map(handle, range(3)))
    assert [cut_step(tree) for tree in shown(recorded)] == [["run: done", agent_tree("astream_chat")]] * 3
    assert all(len({entry.task_id for entry in node.own}) == 1 for node in tree_of(recorded.entries).nodes())


@pytest.mark.usefixtures("handler")
async def test_a_workflow(recorded: Recorded) -> None:
    """Attempts of a step are siblings."""
    attempts: list[int] = []

    class Order(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(delay=0, maximum_attempts=3))
        async def pack(self, ev: StartEvent) -> StopEvent:
            attempts.append(1)
            sync.info(None, "workflow", f"attempt {len(attempts)}")
            if len(attempts) == 1:
                raise TimeoutError("too slow")
            return StopEvent("packed")

    assert await Order(timeout=30).run() == "packed"
    ((run, failed, done),) = shown(recorded)
    assert run == "Order.run: done"
    assert (failed[0].endswith("Order.pack: failed"), failed[1:]) == (True, ["attempt 1"])
    assert (done[0].endswith("Order.pack: done"), done[1:]) == (True, ["attempt 2"])
    (raised, *_) = [entry for entry in recorded.entries if entry.level == "error"]
    assert "in pack" in (raised.details or {})["exception"]["traceback"]


class Index(BaseRetriever):
    """Finds one thing."""

    def _retrieve(self, _: Any) -> Any:
        sync.info(None, "tool", "asking the index")
        return [NodeWithScore(node=TextNode(text="a secret document"), score=1.0)]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.usefixtures("handler")
async def test_an_engine(recorded: Recorded, *, is_async: bool) -> None:
    """What is within a private method is within its parent."""
    engine = RetrieverQueryEngine.from_args(Index(), llm=Model(answers=["a secret answer"]))
    await engine.aquery("x") if is_async else engine.query("x")
    (tree,) = shown(recorded)
    a = "a" if is_async else ""
    assert tree[:2] == [
        f"RetrieverQueryEngine.{a}query: done",
        [f"Index.{a}retrieve: done", "asking the index"],
    ]
    assert f"['Model.{a}complete: done']" in str(tree)
    assert {entry.category for entry in recorded.of(f"Index.{a}retrieve")} == {"tool"}


@pytest.mark.usefixtures("handler")
def test_a_model_that_fails(recorded: Recorded) -> None:
    """At once, or within its stream."""
    model = Model(answers=[ConnectionError("away"), ConnectionError("broken off")])
    with pytest.raises(ConnectionError):
        model.chat([])
    with pytest.raises(ConnectionError):
        list(model.stream_chat([]))
    assert recorded.trees == [["Model.chat: failed"], ["Model.stream_chat: failed"]]
    assert recorded.entries[-1].message == "Model.stream_chat failed: broken off"


@pytest.mark.usefixtures("handler")
def test_a_stream_that_is_not_read(recorded: Recorded) -> None:
    """It has not ended; what is recorded afterwards is not within it."""
    stream = Model(answers=[says("x")]).stream_chat([])
    sync.info("task-1", "app", "afterwards")
    assert recorded.trees == [["Model.stream_chat: running"], "afterwards"]
    assert len(list(stream)) == 1
    assert recorded.trees[0] == ["Model.stream_chat: done"]


# What an entry says -------------------------------------------------------------------------------


@pytest.mark.usefixtures("handler")
async def test_columns_and_details(recorded: Recorded) -> None:
    """Names, categories, agents, models, token counts; no prompts and no outputs."""
    await make_agent(calls("light"), says("a secret answer"), streaming=True).run("a secret prompt")
    of_model = [entry for entry in recorded.entries if entry.step == "Model.astream_chat"]
    begun, ended = of_model[:2]  # of two calls
    assert (begun.category, begun.agent_name) == ("agent", "Packer")
    assert begun.details == {"kind": "model", "model": "m-1"}
    assert ended.details == {"input_tokens": 7, "output_tokens": 2}
    begun, ended = recorded.of("weigh")
    assert (begun.category, begun.agent_name) == ("tool", "Packer")
    assert begun.details == {"kind": "tool", "tool_name": "weigh"}
    (begun, ended) = recorded.of("FunctionAgent.run")
    assert {entry.task_id for entry in recorded.entries} == {begun.operation_id}
    assert "secret" not in str(recorded.entries)


async def test_content(recorded: Recorded) -> None:
    """On demand."""
    OperationSpanHandler(content=True).install()
    await make_agent(calls("light"), says("a secret answer"), streaming=True).run("a secret prompt")
    begun, ended = recorded.of("weigh")
    assert "light" in str((begun.details or {})["input"])
    assert "a secret result" in str((ended.details or {})["output"])
    ended = [entry for entry in recorded.entries if entry.step == "Model.astream_chat"][-1]
    assert "a secret answer" in str((ended.details or {})["output"])


# What the host is spared --------------------------------------------------------------------------

NO_ARGUMENTS = inspect.signature(lambda: None).bind()


def test_what_never_ends(
    recorded: Recorded, handler: OperationSpanHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an open operation, and forgotten when there are too many newer ones."""
    monkeypatch.setattr(operations, "MOST_OPEN", 10)
    root = f"root-{uuid4()}"
    handler.span_enter(root, NO_ARGUMENTS)
    for number in range(50):
        contextvars.copy_context().run(
            handler.span_enter, f"{number}-{UUID(int=number)}", NO_ARGUMENTS, parent_id=root
        )
    handler.span_exit(root, NO_ARGUMENTS)
    assert len(handler._operations) == 9
    assert not handler.open_spans
    assert recorded.trees == [["root: done", *([f"{number}: running"] for number in range(50))]]


def test_nothing_is_raised(
    recorded: Recorded, handler: OperationSpanHandler, internal_errors: list[tuple[str, BaseException]]
) -> None:
    """What goes wrong here is counted, and LlamaIndex does not hear of it."""
    hostile: Any = object()
    handler.span_enter(hostile, NO_ARGUMENTS)
    handler.span_exit([], NO_ARGUMENTS)  # type: ignore[arg-type, unused-ignore]
    handler._on_event(hostile)
    assert [where for where, _ in internal_errors] == [
        "the start of a span of LlamaIndex's",
        "the end of a span of LlamaIndex's",
        "an event of LlamaIndex's",
    ]
    internal_errors.clear()
