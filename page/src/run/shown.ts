// What of a run is shown, in which order: the lines of the waterfall, or the rows of the log.
import type { Place } from "../model/place";
import { hasError, keyOf, leadingTo } from "../model/selection";
import { joined, type Span } from "../model/timescale";
import {
  groupsOf,
  type Item,
  isOperation,
  type Line,
  linesOf,
  type Operation,
  type Tree,
  treeOf,
} from "../model/tree";
import type { Matches, RunSession } from "./session";

export class Shown {
  tree: Tree = treeOf([]);
  lines: Line[] = [];
  /** When something happened: entries, and operations without anything within them. */
  busy: Span[] = [];
  extent: Span = { from: 0, to: 1 };
  private readonly closed = new Set<string>();
  private treeVersion = -1;
  private builtOf = 0;
  /** Counts what was closed or opened. */
  private closings = 0;
  private usedFilters = "";
  private usedMatches: Matches | null = null;
  private linesFor = "";
  private indexes: Map<Item, number> | null = null;

  constructor(private readonly session: RunSession) {}

  /** How many milliseconds the last building of the tree took. */
  cost = 0;

  /** Follows the session and the place; does nothing where nothing changed. */
  update(place: Place): void {
    const { session } = this;
    // While a long run is loading, the tree is built anew when half as much again has come: not for each page.
    const grown = session.log.rows.length - this.builtOf;
    const hasRows = this.treeVersion !== session.version && (session.isLoaded || grown >= this.builtOf / 2);
    if (hasRows) this.build();
    const filters = JSON.stringify(place.filters);
    if (filters !== this.usedFilters) this.toggleAll(false); // what is found is to be seen
    this.usedFilters = filters;
    const key = `${place.mode} ${place.detail} ${this.closings}`;
    if (!hasRows && session.matches === this.usedMatches && key === this.linesFor) return;
    this.usedMatches = session.matches;
    this.linesFor = key;
    this.lines = place.mode === "log" ? this.logLines() : this.treeLines(place.detail === "operations");
    this.indexes = null;
  }

  private build(): void {
    const start = performance.now();
    const { rows } = this.session.log;
    this.treeVersion = this.session.version;
    this.builtOf = rows.length;
    const hasOperations = rows.some(row => row.operation !== null);
    this.tree = hasOperations ? treeOf(rows) : groupsOf(rows);
    const spans: Span[] = rows.map(row => ({ from: row.at, to: row.at }));
    for (const operation of this.tree.operations.values())
      if (!operation.isGroup && !operation.children.some(isOperation))
        spans.push({ from: operation.beganAt, to: operation.endedAt ?? operation.lastAt });
    this.busy = joined(spans);
    const from = this.busy[0]?.from ?? 0;
    this.extent = { from, to: Math.max(this.busy.at(-1)?.to ?? 0, from + 1000) };
    this.cost = performance.now() - start;
  }

  private logLines(): Line[] {
    const { log, matches } = this.session;
    const rows = matches === null ? log.rows : log.rows.filter(row => matches.has(row));
    return rows.map(item => ({ item, depth: 0 }));
  }

  private treeLines(isOperationsOnly: boolean): Line[] {
    const { log, matches } = this.session;
    const leading = matches === null ? null : leadingTo(this.tree, log.rows, row => matches.has(row));
    return linesOf(
      this.tree,
      operation => this.closed.has(operation.id),
      item => (leading === null || leading.has(item)) && (!isOperationsOnly || isOperation(item)),
    );
  }

  isClosed(operation: Operation): boolean {
    return this.closed.has(operation.id);
  }

  toggle(operation: Operation, isClosed = !this.isClosed(operation)): void {
    this.closings++;
    if (isClosed) this.closed.add(operation.id);
    else this.closed.delete(operation.id);
  }

  toggleAll(isClosed: boolean): void {
    this.closings++;
    this.closed.clear();
    if (isClosed) for (const id of this.tree.operations.keys()) this.closed.add(id);
  }

  /** Where an item is shown; -1 where it is not. */
  indexOf(item: Item): number {
    this.indexes ??= new Map(this.lines.map((line, index) => [line.item, index]));
    return this.indexes.get(item) ?? -1;
  }

  /** The line that shows this entry: its own, or that of the operation that it begins or ends. */
  indexOfEntry(id: string): number {
    const row = this.session.log.get(id);
    if (row === undefined) return -1;
    const own = this.indexOf(row);
    if (own >= 0) return own;
    const holder = this.tree.holderOf(row);
    return holder === null ? -1 : this.indexOf(holder);
  }

  /** The item of an entry; null while it is not known. */
  itemOf(id: string): Item | null {
    const row = this.session.log.get(id);
    if (row === undefined) return null;
    const holder = this.tree.holderOf(row);
    return holder !== null && (holder.begin === row || holder.end === row) ? holder : row;
  }

  /** Opens what an entry is within. */
  reveal(id: string): void {
    this.closings++;
    const row = this.session.log.get(id);
    for (let one = row ? this.tree.holderOf(row) : null; one !== null; one = one.parent)
      this.closed.delete(one.id);
  }

  /** The next line with an error behind this one, around the end; opens what hides it. null: there is none. */
  nextError(index: number, place: Place): string | null {
    this.closings++;
    for (const operation of this.tree.operations.values())
      if (operation.errors > 0) this.closed.delete(operation.id);
    const current = this.lines[index]?.item;
    this.update(place);
    const start = current ? this.indexOf(current) : -1;
    for (let i = 1; i <= this.lines.length; i++) {
      const item = this.lines[(start + i) % this.lines.length]?.item;
      if (item && hasError(item)) return keyOf(item);
    }
    return null;
  }
}
