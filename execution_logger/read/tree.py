"""The tree of a run: its operations, and the entries within each. Nothing here reads a database."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from execution_logger.entry.entry import (
    ENDED,
    ERRORS,
    OPERATION_TEXTS,
    RUN_STATE,
    LogEntry,
    LogLevel,
    RunState,
)


def _after_name(*events: str) -> tuple[str, ...]:
    """What stands after an operation's name in the messages of these events, in each language."""
    return tuple(texts[event].split("{}")[1] for texts in OPERATION_TEXTS.values() for event in events)


_STARTED = _after_name("started")
_ENDED = _after_name("completed", "cancelled")
_FAILED = _after_name("failed")


class Place(Protocol):
    """What tells a place in the tree: an entry, or only these two fields of it."""

    @property
    def operation_id(self) -> str | None:
        """That of the operation which it begins or ends."""

    @property
    def parent_id(self) -> str | None:
        """That of the operation within which it was recorded."""


_PlaceT = TypeVar("_PlaceT", bound=Place)


@dataclass(slots=True, eq=False)
class Node:
    """An operation, and what was recorded within it.

    Attributes:
        operation_id: its id.
        own: its own entries, of which the first begins it and the last ends it, in the order of time; never
            empty.
        entries: those recorded within it that are no operation's own, in the order of time.
        children: the operations within it, in the order of their beginnings.
        open_state: the state of an operation without an end.
        errors: how many entries are errors, its own and those of everything beneath it.
    """

    operation_id: str
    own: list[LogEntry]
    open_state: RunState = RunState.RUNNING
    entries: list[LogEntry] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)
    errors: int = 0

    @property
    def parent_id(self) -> str | None:
        """The operation that it was within, stored or not."""
        return next((entry.parent_id for entry in self.own if entry.parent_id), None)

    @property
    def begin(self) -> LogEntry | None:
        """The entry that begins it; None where only its end is stored."""
        first = self.own[0]
        return None if first is self.end else first

    @property
    def end(self) -> LogEntry | None:
        """The entry that ends it, or else the last one of several; None while it is open.

        A run that begins again after its end is open.
        """
        for entry in reversed(self.own):
            if ends(entry):
                return entry
            if begins_run(entry):
                return None
        return self.own[-1] if len(self.own) > 1 else None

    @property
    def outcome(self) -> str:
        """How it went: its state, or what its end says where that is more, as "to be retried: ..."."""
        if self.state is RunState.CANCELLED and self.end is not None:
            message = self.end.message or ""
            if message.startswith(f"{self.name} ") and not message.endswith(_ENDED):
                return message.removeprefix(f"{self.name} ")
        return self.state

    @property
    def name(self) -> str:
        """Its name, as its first entry tells it; the whole message of one that tells it in another way."""
        return name_of(self.own[0])

    @property
    def state(self) -> RunState:
        """How it went: what its end says of a run, or else its level; `open_state` without an end."""
        return self.open_state if self.end is None else state_of(self.end)

    @property
    def began_at(self) -> datetime:
        """When it began, in UTC; reckoned from its duration where only its end is stored."""
        return began_at(self.own[0]) if self.begin is None else self.own[0].created_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, in UTC; None while it is open."""
        return None if self.end is None else self.end.created_at

    @property
    def duration_ms(self) -> int | None:
        """How long it took; None while it is open."""
        if self.end is None:
            return None
        if self.end.duration_ms is not None:
            return self.end.duration_ms
        return round((self.end.created_at - self.began_at).total_seconds() * 1000)

    def items(self) -> list["LogEntry | Node"]:
        """Its entries and its children, in the order of time."""
        return _in_order([*self.entries, *self.children])


@dataclass(slots=True, eq=False)
class Tree:
    """The operations of a run, or of several; each entry is in it exactly once.

    Attributes:
        entries: those of no operation, or of one of which no entry of its own is here.
        roots: the operations that are within no other one that is here.
    """

    entries: list[LogEntry] = field(default_factory=list)
    roots: list[Node] = field(default_factory=list)

    def items(self) -> list[LogEntry | Node]:
        """Its entries and its roots, in the order of time."""
        return _in_order([*self.entries, *self.roots])

    def nodes(self) -> Iterator[Node]:
        """Every operation, each before those within it."""
        waiting = self.roots[::-1]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)

    def pruned(self, takes: Callable[[LogEntry], bool]) -> "Tree":
        """The tree with these entries alone, and with the operations that lead to them."""
        nodes = {id(node): Node(node.operation_id, node.own, node.open_state) for node in self.nodes()}
        for node in reversed([*self.nodes()]):
            kept = nodes[id(node)]
            kept.entries = [entry for entry in node.entries if takes(entry)]
            kept.children = [nodes[id(child)] for child in node.children if id(child) in nodes]
            if not (kept.entries or kept.children or any(map(takes, node.own))):
                del nodes[id(node)]
        roots = [nodes[id(root)] for root in self.roots if id(root) in nodes]
        return _counted(Tree([entry for entry in self.entries if takes(entry)], roots))


def tree_of(entries: Iterable[LogEntry], open_state: RunState = RunState.RUNNING) -> Tree:
    """Build the tree of these entries, which may come in any order; an entry that comes twice is there twice.

    It neither recurses nor takes more than linear time, but for the sorting. What is within an operation that
    is not here is a root; operations that are within each other in a circle are cut at the earliest of them.

    Args:
        entries: of one run or of several.
        open_state: what to call operations that have no end.
    """
    tree, nodes = Tree(), dict[str, Node]()
    ordered = sorted(entries, key=_moment)
    for entry in ordered:
        if entry.operation_id in nodes:
            nodes[entry.operation_id].own.append(entry)
        elif entry.operation_id is not None:
            nodes[entry.operation_id] = Node(entry.operation_id, [entry], open_state)
    for entry in ordered:
        if entry.operation_id is None:
            parent = nodes.get(entry.parent_id or "")
            (tree if parent is None else parent).entries.append(entry)
    cut = _cuts(nodes)
    for node in sorted(nodes.values(), key=_moment):
        parent = None if node.operation_id in cut else nodes.get(node.parent_id or "")
        (tree.roots if parent is None else parent.children).append(node)
    return _counted(tree)


class Subtree(Generic[_PlaceT]):
    """Tells what is within some operations, and beneath these, from what comes in any order.

    Args:
        operations: their ids.
        most_kept: what comes before the operation that it is within is kept until that comes, but no more
            than so many places.
    """

    def __init__(self, operations: Iterable[str], most_kept: int = 100_000) -> None:
        self.operations = set(operations)
        """All of which it is known that they belong to it."""
        self._most_kept = most_kept
        self._waiting: dict[str, deque[_PlaceT]] = {}
        self._number = 0

    def take(self, places: Iterable[_PlaceT]) -> list[_PlaceT]:
        """Those of them that are within it, and earlier ones of which that is known now."""
        taken: list[_PlaceT] = []
        coming: deque[_PlaceT] = deque(places)
        while coming:
            place = coming.popleft()
            id_ = place.operation_id
            if id_ not in self.operations and place.parent_id not in self.operations:
                self._keep(place)
                continue
            taken.append(place)
            if id_ is not None and id_ not in self.operations:
                self.operations.add(id_)
                released = self._waiting.pop(id_, deque())
                self._number -= len(released)
                coming.extendleft(reversed(released))
        return taken

    def _keep(self, place: _PlaceT) -> None:
        if place.parent_id is None:
            return
        self._waiting.setdefault(place.parent_id, deque()).append(place)
        self._number += 1
        if self._number > self._most_kept:
            parent_id, oldest = next(iter(self._waiting.items()))
            oldest.popleft()
            self._number -= 1
            if not oldest:
                del self._waiting[parent_id]


def ends(entry: LogEntry) -> bool:
    """Whether an entry ends its operation: one with a duration does, and one that says so of its run."""
    return entry.duration_ms is not None or _told(entry) in ENDED


def begins_run(entry: LogEntry) -> bool:
    """Whether an entry says that its run begins."""
    return _told(entry) == RunState.RUNNING


def _told(entry: LogEntry) -> object:
    return (entry.details or {}).get(RUN_STATE) if entry.operation_id else None


def name_of(entry: LogEntry) -> str:
    """The name of the operation that an entry begins or ends."""
    return name_in(entry.message or "", entry.level, is_end=ends(entry))


def name_in(message: str, level: str | None, *, is_end: bool) -> str:
    """The name of an operation in the message of an entry of this level that ends it, or begins it."""
    for suffix in _ENDED if is_end else _STARTED:
        if message.endswith(suffix):
            return message.removesuffix(suffix)
    if is_end and level in ERRORS:
        places = [place for infix in _FAILED if (place := message.find(infix)) >= 0]
        return message[: min(places, default=None)]
    return message


def state_of(end: LogEntry) -> RunState:
    """How the operation went that an entry ends."""
    if (told := _told(end)) in ENDED:
        return RunState(str(told))
    if end.level in ERRORS:
        return RunState.FAILED
    return RunState.CANCELLED if end.level == LogLevel.WARNING else RunState.DONE


def began_at(end: LogEntry) -> datetime:
    """When the operation began that an entry ends."""
    try:
        return end.created_at - timedelta(milliseconds=end.duration_ms or 0)
    except OverflowError:  # the time is a host's own
        return end.created_at


def _moment(item: "LogEntry | Node") -> tuple[datetime, str]:
    if isinstance(item, Node):
        return item.began_at, item.own[0].id
    return item.created_at, item.id


def _in_order(items: list["LogEntry | Node"]) -> list["LogEntry | Node"]:
    return sorted(items, key=_moment)


def _cuts(nodes: dict[str, Node]) -> set[str]:
    """Of each circle of operations the one that begins first."""
    cut: set[str] = set()
    is_done: set[str] = set()
    for start in nodes:
        path: dict[str, None] = {}
        id_: str | None = start
        while id_ in nodes and id_ not in is_done and id_ not in path:
            path[id_] = None
            id_ = nodes[id_].parent_id
        if id_ in path:
            walked = list(path)
            cut.add(min(walked[walked.index(id_) :], key=lambda each: _moment(nodes[each])))
        is_done.update(path)
    return cut


def _counted(tree: Tree) -> Tree:
    """The tree, each of its operations with the number of errors."""
    for node in reversed([*tree.nodes()]):
        here = sum(entry.level in ERRORS for entry in (*node.own, *node.entries))
        node.errors = here + sum(child.errors for child in node.children)
    return tree
