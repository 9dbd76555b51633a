"""Runs of LangChain's and LangGraph's: operations, by the real packages with a fake model."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks import (
    CallbackManagerForRetrieverRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document as Found
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.language_models.llms import create_base_retry_decorator
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from documents import Document
from execution_logger import ExecutionLogger, LogEntry
from execution_logger import execution_logger as logger
from execution_logger.integrations import operations
from execution_logger.integrations.langchain import OperationCallbackHandler
from execution_logger.read.tree import Node, tree_of
from execution_logger.testing import capture_entries
from recorded import Recorded, recorded_in

PAGE = Document("docs/integrations/langchain.md")
QUESTION = {"messages": [("user", "what is a secret question?")]}
sync = logger.sync


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    """What the ready instance records, out of a database."""
    with recorded_in(tmp_path) as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LogEntry]]:
    """What the ready instance records, in English."""
    monkeypatch.setenv("EXECUTION_LOGGER_LANGUAGE", "en")
    with capture_entries() as entries:
        yield entries


def shown(entries: list[LogEntry]) -> list[Any]:
    """The whole tree: operations as a list of their names, states, and what is within them."""

    def of(item: LogEntry | Node) -> Any:
        if isinstance(item, LogEntry):
            return item.message
        return [f"{item.name}: {item.state}", *map(of, item.items())]

    return [of(item) for item in tree_of(entries).items()]


def config(handler: OperationCallbackHandler | None = None, **more: Any) -> Any:
    """That of a call with a handler."""
    return {"callbacks": [handler or OperationCallbackHandler()], **more}


def of(entries: list[LogEntry], name: str) -> list[LogEntry]:
    """The entries at the start and the end of the operation of that name."""
    (node,) = [node for node in tree_of(entries).nodes() if node.name == name]
    return node.own


def note(message: str) -> None:
    """An entry of our own, of the run that the context tells."""
    sync.info(None, "app", message)


def model() -> FakeMessagesListChatModel:
    """One that counts tokens."""
    usage: Any = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
    answer = AIMessage("a secret answer", usage_metadata=usage, response_metadata={"model_name": "m-1"})
    return FakeMessagesListChatModel(responses=[answer])


@tool
def weigh(thing: str) -> str:
    """Weigh a thing."""
    note("on the scales")
    raise ConnectionError(f"no answer about {len(thing)} characters")


def make_graph() -> Any:
    """A graph whose first node fails once, and whose second one has a tool that fails."""
    attempts: list[int] = []

    def plan(_: MessagesState) -> Any:
        attempts.append(1)
        note(f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise TimeoutError("too slow")
        return {"messages": [model().invoke("a secret prompt")]}

    def act(_: MessagesState) -> Any:
        with logger.timed_operation(None, "tool", "packing"), pytest.raises(ConnectionError):
            weigh.invoke({"thing": "a secret thing"})
        return {}

    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=TimeoutError)
    graph: Any = StateGraph(MessagesState)
    graph.add_node(plan, retry_policy=policy).add_node(act)
    return graph.add_edge(START, "plan").add_edge("plan", "act").compile(name="report")


def make_async_graph() -> Any:
    """The same one of coroutines."""
    attempts: list[int] = []

    async def plan(_: MessagesState) -> Any:
        attempts.append(1)
        note(f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise TimeoutError("too slow")
        return {"messages": [await model().ainvoke("a secret prompt")]}

    async def act(_: MessagesState) -> Any:
        async with logger.timed_operation(None, "tool", "packing"):
            with pytest.raises(ConnectionError):
                await weigh.ainvoke({"thing": "a secret thing"})
        return {}

    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=TimeoutError)
    graph: Any = StateGraph(MessagesState)
    graph.add_node(plan, retry_policy=policy).add_node(act)
    return graph.add_edge(START, "plan").add_edge("plan", "act").compile(name="report")


REPORT = [
    "report: done",
    ["plan: failed", "attempt 1"],
    ["plan: done", "attempt 2", ["FakeMessagesListChatModel: done"]],
    ["act: done", ["packing: done", ["weigh: failed", "on the scales"]]],
]


# The tree -----------------------------------------------------------------------------------------


def test_the_example_of_the_page(entries: list[LogEntry]) -> None:
    """The graph, its node, the tool and an entry of our own are one tree of the run."""
    PAGE.run_example("langchain")["handle"]("task-1", "prices")
    assert shown(entries) == [
        ["run: done", ["report: done", ["research: done", ["search: done", "asking the index"]]]]
    ]
    assert {entry.task_id for entry in entries} == {"task-1"}


def test_a_graph(entries: list[LogEntry]) -> None:
    """Attempts are siblings, and an operation of our own is between its node and its tool."""
    make_graph().invoke(QUESTION, config())
    assert shown(entries) == [REPORT]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_graph_in_a_database(recorded: Recorded, *, is_async: bool) -> None:
    """The whole tree is that of what was recorded, with what is within it."""
    with logger.run("task-1"):
        if is_async:
            await make_async_graph().ainvoke(QUESTION, config())
        else:
            make_graph().invoke(QUESTION, config())
    assert recorded.trees == [["run: done", REPORT]]
    assert {entry.task_id for entry in recorded.entries} == {"task-1"}
    _, ended = recorded.of("FakeMessagesListChatModel")
    assert ended.details == {"model": "m-1", "input_tokens": 7, "output_tokens": 2}


async def test_a_graph_in_a_loop(entries: list[LogEntry]) -> None:
    """The same tree; what is recorded afterwards is within nothing."""
    async with logger.run("task-1"):
        await make_async_graph().ainvoke(QUESTION, config())
        note("afterwards")
    assert shown(entries) == [["run: done", REPORT, "afterwards"]]
    assert {entry.task_id for entry in entries} == {"task-1"}


async def test_plain_nodes_in_a_loop(entries: list[LogEntry]) -> None:
    """They run in an executor, with the context."""
    await make_graph().ainvoke(QUESTION, config())
    assert shown(entries) == [REPORT]


async def test_runs_at_the_same_time(entries: list[LogEntry]) -> None:
    """One handler, many calls: each is a tree of its own."""
    handler = OperationCallbackHandler()
    await asyncio.gather(
        *(
            make_async_graph().ainvoke(QUESTION, config(handler, metadata={"task_id": f"task-{number}"}))
            for number in range(5)
        )
    )
    for number in range(5):
        of_run = [entry for entry in entries if entry.task_id == f"task-{number}"]
        assert shown(of_run) == [REPORT]
    assert not handler._operations


def test_parallel_nodes_and_a_batch(entries: list[LogEntry]) -> None:
    """In threads of LangChain's, each within its own."""
    together = threading.Barrier(2)

    def left(_: Any) -> str:
        together.wait(10)
        note("left")
        return "left"

    def right(_: Any) -> str:
        together.wait(10)
        note("right")
        return "right"

    both: Any = RunnableLambda(lambda x: x) | {"left": RunnableLambda(left), "right": RunnableLambda(right)}
    both.with_config(run_name="both").batch(["x"], config())
    (tree,) = shown(entries)
    assert tree[0] == "both: done"
    parallel = tree[2]
    assert sorted(parallel[1:]) == [["left: done", "left"], ["right: done", "right"]]


def test_a_batch_of_prompts(entries: list[LogEntry]) -> None:
    """They begin before the first one has ended, and are within none of each other."""
    fake, handler = model(), OperationCallbackHandler()
    fake.generate([[AIMessage("a")], [AIMessage("b")]], callbacks=[handler])
    assert shown(entries) == [["FakeMessagesListChatModel: done"]] * 2


def test_steps_that_stream(entries: list[LogEntry]) -> None:
    """They go on in turns, and are siblings all the same; a loop over them is within the call."""

    def first(chunks: Any) -> Any:
        yield from chunks

    chain: Any = RunnableLambda(first) | RunnableLambda(first).with_config(run_name="second")
    for _ in chain.with_config(run_name="both").stream("x", config()):
        note("a chunk")
    note("afterwards")
    assert shown(entries)[0][0] == "both: done"
    assert [item[0] for item in shown(entries)[0] if isinstance(item, list)] == [
        "first: done",
        "second: done",
    ]
    assert shown(entries)[1:] == ["afterwards"]


def test_a_stream_that_is_broken_off(entries: list[LogEntry]) -> None:
    """It is over, and nothing is within it any more."""
    stream = make_graph().stream(QUESTION, config())
    next(stream)
    stream.close()
    del stream
    gc.collect()
    note("afterwards")
    tree = shown(entries)
    assert tree[0][0] == "report: cancelled"
    assert tree[1] == "afterwards"


async def test_what_is_cancelled(entries: list[LogEntry]) -> None:
    """It is a warning, and no error."""
    begun = asyncio.Event()

    async def wait(_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(RunnableLambda(wait).ainvoke("x", config()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown(entries) == [["wait: cancelled"]]


def test_a_thread_without_the_context(entries: list[LogEntry]) -> None:
    """LangChain still knows the parent, if it is given the config."""

    def outer(_: Any, config: Any) -> str:
        inner: Any = RunnableLambda(lambda x: x)
        with ThreadPoolExecutor() as pool:
            empty = contextvars.Context()
            return str(pool.submit(empty.run, inner.invoke, "x", {**config, "run_name": "inner"}).result())

    with logger.context(task_id="task-1"):
        RunnableLambda(outer).invoke("x", config())
    assert shown(entries) == [["outer: done", ["inner: done"]]]
    assert {entry.task_id for entry in entries} == {"task-1"}


def test_a_handler_of_a_part(entries: list[LogEntry]) -> None:
    """It is within what is around it here: nobody has recorded what LangChain says is around it."""
    part = RunnableLambda(lambda x: x).with_config(callbacks=[OperationCallbackHandler()], run_name="part")
    with logger.timed_operation("r", "app", "around"):
        RunnableLambda(part.invoke).invoke("x")
    assert shown(entries) == [["around: done", ["part: done"]]]


def test_what_is_hidden(entries: list[LogEntry]) -> None:
    """What a framework does for itself is left out; what is within it is within its parent."""
    handler, (outer, hidden, inner) = OperationCallbackHandler(), (uuid4(), uuid4(), uuid4())
    handler.on_chain_start(None, {}, run_id=outer, name="outer")
    handler.on_chain_start(None, {}, run_id=hidden, parent_run_id=outer, tags=["langsmith:hidden"])
    handler.on_chain_start(None, {}, run_id=inner, parent_run_id=hidden, name="inner")
    for run_id in (inner, hidden, outer):
        handler.on_chain_end({}, run_id=run_id)
    assert shown(entries) == [["outer: done", ["inner: done"]]]


# What an entry says -------------------------------------------------------------------------------


def test_columns_and_details(entries: list[LogEntry]) -> None:
    """Names, categories, agents, models, token counts; no prompts and no outputs."""
    make_graph().invoke(
        QUESTION, config(metadata={"thread_id": "thread-1", "tenant": "acme"}, tags=["nightly"])
    )
    assert {entry.task_id for entry in entries} == {"thread-1"}
    begun, ended = of(entries, "FakeMessagesListChatModel")
    assert (begun.category, begun.step, begun.agent_name) == ("agent", "FakeMessagesListChatModel", "plan")
    assert begun.details == {"kind": "model", "tags": ["nightly"]}
    assert ended.details == {"model": "m-1", "input_tokens": 7, "output_tokens": 2}
    assert ended.duration_ms is not None
    begun, ended = of(entries, "weigh")
    assert (begun.category, begun.agent_name) == ("tool", "act")
    assert begun.details == {"kind": "tool", "tool_name": "weigh", "tags": ["nightly"]}
    assert ended.level == "error"
    assert "in weigh" in (ended.details or {})["exception"]["traceback"]
    begun, _ = of(entries, "report")
    assert (begun.category, begun.agent_name) == ("workflow", None)
    assert (begun.details or {})["metadata"] == {"thread_id": "thread-1", "tenant": "acme"}
    assert {entry.agent_name for entry in entries if entry.message == "on the scales"} == {"act"}
    assert "secret" not in str(entries)


def test_content(entries: list[LogEntry]) -> None:
    """On demand."""
    make_graph().invoke(QUESTION, config(OperationCallbackHandler(content=True)))
    begun, ended = of(entries, "FakeMessagesListChatModel")
    assert "a secret prompt" in str(begun.details)
    assert "a secret answer" in str(ended.details)
    assert (of(entries, "weigh")[0].details or {})["input"] == {"thing": "a secret thing"}


def test_the_run(entries: list[LogEntry]) -> None:
    """It is that of the context, of the metadata, of a function of it, or the outermost call's id."""
    chain = RunnableLambda(lambda x: x) | RunnableLambda(lambda x: x)
    run_id = uuid4()
    with logger.context(task_id="context"):
        chain.invoke("x", config(metadata={"task_id": "metadata"}))
    chain.invoke("x", config(metadata={"task_id": "metadata", "thread_id": "thread"}))
    by_tenant = OperationCallbackHandler(task_id=lambda metadata: metadata.get("tenant"))
    chain.invoke("x", config(by_tenant, metadata={"tenant": "acme"}))
    chain.invoke("x", config(by_tenant, run_id=run_id))
    runs = list(dict.fromkeys(entry.task_id for entry in entries))
    assert runs == ["context", "metadata", "acme", str(run_id)]
    assert entries[-1].operation_id == str(run_id)


def test_where_an_error_came_from(entries: list[LogEntry]) -> None:
    """Every operation that it ended says what it was, and the innermost one where it was raised."""

    def fail(_: Any) -> None:
        raise KeyError("order")

    with pytest.raises(KeyError):
        (RunnableLambda(fail) | RunnableLambda(fail)).with_config(run_name="both").invoke("x", config())
    assert shown(entries) == [["both: failed", ["fail: failed"]]]
    assert [sorted(entry.details or {}) for entry in entries[2:]] == [["error", "exception"], ["error"]]


def test_an_interrupt(entries: list[LogEntry]) -> None:
    """It is no error, and the call that resumes has operations of its own."""

    def ask(_: MessagesState) -> Any:
        return {"messages": [("assistant", interrupt("is this secret?"))]}

    graph: Any = StateGraph(MessagesState)
    graph = graph.add_node(ask).add_edge(START, "ask").compile(name="report", checkpointer=InMemorySaver())
    settings = config(configurable={"thread_id": "thread-1"})
    graph.invoke(QUESTION, settings)
    graph.invoke(Command(resume="yes"), settings)
    assert shown(entries) == [["report: done", ["ask: done"]]] * 2
    assert [entry.message for entry in entries if entry.step == "ask"] == [
        "ask started", "ask interrupted", "ask started", "ask completed",
    ]  # fmt: skip
    assert {entry.level for entry in entries} == {"info"}
    assert "secret" not in str(entries)


def test_a_command_for_the_graph_around(entries: list[LogEntry]) -> None:
    """A node that hands over by one has not failed, and neither has its graph."""

    def decide(_: MessagesState) -> Any:
        return Command(goto="pack", graph=Command.PARENT)

    inner: Any = StateGraph(MessagesState)
    outer: Any = StateGraph(MessagesState)
    inner = inner.add_node(decide).add_edge(START, "decide").compile(name="inner")
    outer = outer.add_node("ask", inner, destinations=("pack",)).add_node("pack", lambda _: {})
    outer.add_edge(START, "ask").compile(name="outer").invoke(QUESTION, config())
    assert shown(entries) == [
        ["outer: done", ["ask: done", ["inner: done", ["decide: done"]]], ["pack: done"]]
    ]
    assert {entry.level for entry in entries} == {"info"}


def test_a_retry_of_a_models(entries: list[LogEntry]) -> None:
    """It is an entry within the call."""

    class Flaky(FakeMessagesListChatModel):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
            attempts: list[int] = []
            retry = create_base_retry_decorator([ConnectionError], max_retries=2, run_manager=run_manager)

            @retry
            def ask() -> Any:
                attempts.append(1)
                if len(attempts) == 1:
                    raise ConnectionError("broken off")
                return ChatResult(generations=[ChatGeneration(message=AIMessage("x"))])

            ask.retry.sleep = lambda _: None
            return ask()

    Flaky(responses=[]).invoke("x", config())
    assert shown(entries) == [["Flaky: done", "Flaky to be retried: broken off"]]
    assert (entries[1].level, entries[1].category) == ("warning", "retry")
    assert entries[1].details == {"attempt": 1, "error": "broken off"}


async def test_events_of_the_hosts(entries: list[LogEntry]) -> None:
    """They are entries with their data, where they were dispatched."""

    def plain(_: Any) -> None:
        dispatch_custom_event("halfway", {"rows": 3})

    async def awaited(_: Any) -> None:
        await adispatch_custom_event("almost", {"rows": 5})

    RunnableLambda(plain).invoke("x", config())
    await RunnableLambda(awaited).ainvoke("x", config())
    assert shown(entries) == [["plain: done", "halfway"], ["awaited: done", "almost"]]
    assert entries[1].details == {"data": {"rows": 3}}


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_retriever(entries: list[LogEntry], *, is_async: bool) -> None:
    """It is an operation too."""

    class Index(BaseRetriever):
        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun
        ) -> list[Found]:
            note("asking the index")
            return [Found(query)]

    await Index().ainvoke("x", config()) if is_async else Index().invoke("x", config())
    assert shown(entries) == [["Index: done", "asking the index"]]
    assert entries[0].category == "tool"


def test_token_counts_of_older_models(entries: list[LogEntry]) -> None:
    """They are in the provider's own words."""
    handler, run_id = OperationCallbackHandler(), uuid4()
    handler.on_llm_start({"id": ["langchain", "OldModel"]}, ["x"], run_id=run_id)
    output = {"model_name": "m-0", "token_usage": {"prompt_tokens": 4, "completion_tokens": 1}}
    handler.on_llm_end(LLMResult(generations=[[Generation(text="x")]], llm_output=output), run_id=run_id)
    assert shown(entries) == [["OldModel: done"]]
    assert entries[1].details == {"model": "m-0", "input_tokens": 4, "output_tokens": 1}


# What the host is spared --------------------------------------------------------------------------


def test_what_never_ends(entries: list[LogEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an open operation, and forgotten when there are too many newer ones; what is at work is not."""
    monkeypatch.setattr(operations, "MOST_OPEN", 10)
    handler, root = OperationCallbackHandler(), uuid4()
    handler.on_chain_start(None, {}, run_id=root, name="root")
    for number in range(100):
        contextvars.copy_context().run(
            handler.on_chain_start, None, {}, run_id=UUID(int=number), parent_run_id=root, name=str(number)
        )
    assert len(handler._operations) == 10
    handler.on_chain_end({}, run_id=root)
    handler.on_chain_end({}, run_id=UUID(int=0))
    (tree,) = shown(entries)
    assert tree[0] == "root: done"
    assert tree[1:] == [[f"{number}: running"] for number in range(100)]


def test_nothing_is_raised(internal_errors: list[tuple[str, BaseException]]) -> None:
    """What goes wrong here is counted, and the call of the host's goes on."""

    def fail(_: Any) -> None:
        raise RuntimeError("a host's own mistake")

    assert RunnableLambda(lambda x: x).invoke("x", config(OperationCallbackHandler(task_id=fail))) == "x"
    OperationCallbackHandler().on_retry(None, run_id=uuid4())
    assert [where for where, _ in internal_errors] == [
        "the start of a run of LangChain's",
        "a retry of LangChain's",
    ]
    internal_errors.clear()


def test_a_logger_of_ones_own(make_logger: Callable[..., ExecutionLogger], entries: list[LogEntry]) -> None:
    """Its bound fields are filled in, and the ready instance has nothing of it."""
    own = make_logger(language="en")
    RunnableLambda(lambda x: x).invoke(
        "x", config(OperationCallbackHandler(logger=own.bind(task_id="bound")))
    )
    assert own.stats()["accepted"] == 2
    assert entries == []
