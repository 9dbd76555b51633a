// Which rows the filters take, as far as rows tell it.
import { LEVELS } from "../api/types";
import { microsecondsOf } from "./format";
import { isError, type Row } from "./log";
import type { Filters } from "./place";
import { type Item, isOperation, type Tree } from "./tree";

export function takes(filters: Filters): (row: Row) => boolean {
  const least = LEVELS.indexOf(filters.level);
  const since = filters.since ? microsecondsOf(filters.since) : Number.NEGATIVE_INFINITY;
  const until = filters.until ? microsecondsOf(filters.until) : Number.POSITIVE_INFINITY;
  const isOneOf = (wanted: readonly string[], value: string | null) =>
    wanted.length === 0 || (value !== null && wanted.includes(value));
  return row =>
    (least < 0 || LEVELS.indexOf(row.level) >= least) &&
    isOneOf(filters.category, row.category) &&
    isOneOf(filters.step, row.step) &&
    isOneOf(filters.agent, row.agent) &&
    row.at >= since &&
    row.at < until;
}

/** What a tree shows of these entries: they themselves, and the operations that lead to them. */
export function leadingTo(tree: Tree, rows: readonly Row[], isTaken: (row: Row) => boolean): Set<Item> {
  const shown = new Set<Item>();
  for (const row of rows) {
    if (!isTaken(row)) continue;
    shown.add(row);
    let operation = tree.holderOf(row);
    while (operation !== null && !shown.has(operation)) {
      shown.add(operation);
      operation = operation.parent;
    }
  }
  return shown;
}

/** The entry by which an item is selected and linked to. */
export function keyOf(item: Item): string {
  return isOperation(item) ? (item.own[0] as Row).id : item.id;
}

export function hasError(item: Item): boolean {
  return isOperation(item) ? item.own.some(isError) : isError(item);
}
