// The operations of a run and the entries within each. It neither recurses nor takes more than linear time, but for
// the sorting: a run has 100,000 entries, and an operation may be within itself.
import type { RunState } from "../api/types";
import { before, isError, isWarning, type Row } from "./log";

export interface Operation {
  readonly id: string;
  /** Its own entries in the order of time; of a group, which is no operation, all of its entries. */
  readonly own: Row[];
  /** Consecutive entries of the same step and agent, in a run without operations. */
  readonly isGroup: boolean;
  name: string | null;
  /** null: only its end is recorded. */
  begin: Row | null;
  /** null: it is open. */
  end: Row | null;
  /** Microseconds; reckoned from the duration where only the end is recorded. */
  beganAt: number;
  endedAt: number | null;
  durationMs: number | null;
  /** null: open. What the run says decides between "running" and "no end recorded". */
  state: RunState | null;
  isRetry: boolean;
  parent: Operation | null;
  /** Operations and entries within it, in the order of time. */
  children: Item[];
  depth: number;
  /** Its own errors, and those of everything beneath it. */
  errors: number;
  /** All entries, its own and those beneath. */
  entries: number;
  /** When the last of its entries was made, or of those beneath it. */
  lastAt: number;
}

export type Item = Operation | Row;

export function isOperation(item: Item): item is Operation {
  return "own" in item;
}

export interface Tree {
  readonly items: Item[];
  readonly operations: Map<string, Operation>;
  /** The operation or group that shows a row: as its beginning, its end, or within it. */
  holderOf(row: Row): Operation | null;
}

/** @param rows in the order of time. */
export function treeOf(rows: readonly Row[]): Tree {
  const operations = new Map<string, Operation>();
  for (const row of rows) {
    if (row.operation === null) continue;
    const known = operations.get(row.operation);
    if (known) known.own.push(row);
    else operations.set(row.operation, emptyOperation(row.operation, [row], false));
  }
  const within = new Map<Operation, string>();
  for (const operation of operations.values()) {
    settle(operation);
    const parent = operation.own.find(row => row.parent !== null)?.parent;
    if (parent != null) within.set(operation, parent);
  }
  for (const [operation, parent] of within) operation.parent = operations.get(parent) ?? null;
  cutCircles(operations.values());
  const items = place(rows, operations);
  count(items);
  const holderOf = (row: Row) => operations.get(row.operation ?? row.parent ?? "") ?? null;
  return { items, operations, holderOf };
}

export function emptyOperation(id: string, own: Row[], isGroup: boolean): Operation {
  const first = own[0]?.at ?? 0;
  return {
    id,
    own,
    isGroup,
    name: null,
    begin: null,
    end: null,
    beganAt: first,
    endedAt: null,
    durationMs: null,
    state: null,
    isRetry: false,
    parent: null,
    children: [],
    depth: 0,
    errors: 0,
    entries: 0,
    lastAt: first,
  };
}

/** Decides which of its entries begin and end it. */
function settle(operation: Operation): void {
  const { own } = operation;
  const first = own[0] as Row;
  const last = endOf(own);
  operation.end = last ?? null;
  operation.begin = first === last ? null : first;
  operation.name = own.find(row => row.name !== null)?.name ?? null;
  operation.isRetry = first.category === "retry";
  if (last === undefined) return;
  operation.endedAt = last.at;
  operation.beganAt = operation.begin ? first.at : last.at - Math.round((last.durationMs ?? 0) * 1000);
  operation.durationMs = last.durationMs ?? (last.at - operation.beganAt) / 1000;
  operation.state = last.state ?? (isError(last) ? "failed" : isWarning(last) ? "cancelled" : "done");
}

/** The entry that ends an operation, or else the last one of several. A run that begins again after its end is open. */
function endOf(own: readonly Row[]): Row | undefined {
  const telling = own.findLast(row => row.durationMs !== null || row.state !== null);
  if (telling === undefined) return own.length > 1 ? own.at(-1) : undefined;
  return telling.durationMs === null && telling.state === "running" ? undefined : telling;
}

/** Operations that are within each other in a circle are cut at the earliest of them. */
function cutCircles(operations: Iterable<Operation>): void {
  const checked = new Set<Operation>();
  for (const start of operations) {
    if (start.parent === null || checked.has(start.parent)) {
      checked.add(start);
      continue; // as nearly all are, whose parents began before them
    }
    const path = new Set<Operation>();
    let one: Operation | null = start;
    while (one !== null && !checked.has(one) && !path.has(one)) {
      path.add(one);
      one = one.parent;
    }
    if (one !== null && path.has(one)) earliestOf(one).parent = null;
    for (const passed of path) checked.add(passed);
  }
}

function earliestOf(circle: Operation): Operation {
  let earliest = circle;
  for (let one = circle.parent; one !== null && one !== circle; one = one.parent)
    if (byTime(one, earliest) < 0) earliest = one;
  return earliest;
}

function byTime(a: Item, b: Item): number {
  const difference = (isOperation(a) ? a.beganAt : a.at) - (isOperation(b) ? b.beganAt : b.at);
  if (difference !== 0) return difference;
  const first = isOperation(a) ? (a.own[0] as Row) : a;
  const second = isOperation(b) ? (b.own[0] as Row) : b;
  return before(first, second);
}

function place(rows: readonly Row[], operations: Map<string, Operation>): Item[] {
  const roots: Item[] = [];
  const siblings = (parent: Operation | null | undefined) => (parent ? parent.children : roots);
  // Rows come in the order of time, and an operation where it begins. One without a beginning began earlier than that.
  const unordered = new Set<Item[]>();
  for (const row of rows) {
    const own = row.operation === null ? undefined : operations.get(row.operation);
    if (own === undefined) siblings(operations.get(row.parent ?? "")).push(row);
    else if (row === own.own[0]) {
      siblings(own.parent).push(own);
      if (own.begin === null) unordered.add(siblings(own.parent));
    }
    if (own !== undefined && row !== own.begin && row !== own.end) own.children.push(row);
  }
  for (const items of unordered) items.sort(byTime);
  return roots;
}

/** Depths downwards, then errors, entries and last moments upwards. */
function count(items: readonly Item[]): void {
  const ordered: Operation[] = items.filter(isOperation);
  for (let i = 0; i < ordered.length; i++) {
    const operation = ordered[i] as Operation;
    for (const child of operation.children) {
      if (!isOperation(child)) continue;
      child.depth = operation.depth + 1;
      ordered.push(child);
    }
  }
  for (const operation of ordered.reverse()) {
    for (const row of operation.own)
      if (row === operation.begin || row === operation.end) add(operation, row);
    for (const child of operation.children) if (!isOperation(child)) add(operation, child);
    const { parent } = operation;
    if (parent === null) continue;
    parent.errors += operation.errors;
    parent.entries += operation.entries;
    parent.lastAt = Math.max(parent.lastAt, operation.lastAt);
  }
}

function add(operation: Operation, row: Row): void {
  operation.entries++;
  if (isError(row)) operation.errors++;
  operation.lastAt = Math.max(operation.lastAt, row.at);
}

/** A run without operations: consecutive entries of the same step and agent together; none where neither is told. */
export function groupsOf(rows: readonly Row[]): Tree {
  const operations = new Map<string, Operation>();
  const holders = new Map<Row, Operation>();
  const items: Item[] = [];
  let group: Operation | null = null;
  for (const row of rows) {
    if (row.step === null && row.agent === null) {
      group = null;
      items.push(row);
      continue;
    }
    const previous = group?.own[0];
    if (group === null || previous?.step !== row.step || previous?.agent !== row.agent) {
      group = emptyOperation(row.id, [], true);
      group.name = row.step ?? row.agent;
      group.beganAt = row.at;
      operations.set(group.id, group);
      items.push(group);
    }
    group.own.push(row);
    group.children.push(row);
    holders.set(row, group);
    group.endedAt = row.at;
    group.durationMs = (row.at - group.beganAt) / 1000;
    add(group, row);
    group.state = group.errors > 0 ? "failed" : "done";
  }
  return { items, operations, holderOf: row => holders.get(row) ?? null };
}

export interface Line {
  readonly item: Item;
  readonly depth: number;
}

/** The lines that are shown, from the top: everything but what is within closed operations, or is not taken. */
export function linesOf(
  tree: Tree,
  isClosed: (operation: Operation) => boolean,
  takes: (item: Item) => boolean,
): Line[] {
  const lines: Line[] = [];
  const waiting: Line[] = tree.items.map(item => ({ item, depth: 0 })).reverse();
  for (let line = waiting.pop(); line !== undefined; line = waiting.pop()) {
    if (!takes(line.item)) continue;
    lines.push(line);
    if (!isOperation(line.item) || isClosed(line.item)) continue;
    const { children } = line.item;
    for (let i = children.length - 1; i >= 0; i--)
      waiting.push({ item: children[i] as Item, depth: line.depth + 1 });
  }
  return lines;
}
