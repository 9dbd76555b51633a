// What is known of every entry of a run, without its message and details: enough to draw all of it.
import type { LiveEntry, RunState, SkeletonPage } from "../api/types";
import { RUN_STATES } from "../api/types";

export interface Row {
  readonly id: string;
  /** Microseconds since the epoch. */
  readonly at: number;
  readonly level: string;
  readonly category: string;
  readonly step: string | null;
  readonly agent: string | null;
  readonly tool: string | null;
  /** The name of the operation that it begins or ends. */
  readonly name: string | null;
  /** The operation that it begins or ends. */
  readonly operation: string | null;
  /** The operation that it was recorded within. */
  readonly parent: string | null;
  readonly durationMs: number | null;
  readonly state: RunState | null;
}

export function isError(row: Row): boolean {
  return row.level === "error" || row.level === "critical";
}

export function isWarning(row: Row): boolean {
  return row.level === "warning";
}

export function before(a: Row, b: Row): number {
  return a.at - b.at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** The rows of a page of the skeleton. */
export function decode(page: SkeletonPage): Row[] {
  const { columns } = page;
  const pick = (names: readonly string[], indexes: readonly number[], i: number) =>
    names[indexes[i] ?? -1] ?? null;
  let at = 0;
  return columns.id.map((id, i) => {
    at += columns.at_us[i] ?? 0;
    return {
      id,
      at,
      level: pick(page.levels, columns.level, i) ?? "info",
      category: pick(page.categories, columns.category, i) ?? "",
      step: pick(page.steps, columns.step, i),
      agent: pick(page.agents, columns.agent, i),
      tool: pick(page.tools, columns.tool, i),
      name: pick(page.names, columns.name, i),
      operation: pick(page.operations, columns.operation, i),
      parent: pick(page.operations, columns.parent, i),
      durationMs: columns.duration_ms[i] ?? null,
      state: RUN_STATES[columns.state[i] ?? -1] ?? null,
    };
  });
}

export function rowOf(entry: LiveEntry): Row {
  const { id, at_us: at, level, category, step, agent, tool, name, operation, parent, state } = entry;
  const durationMs = entry.duration_ms;
  return { id, at, level, category, step, agent, tool, name, operation, parent, durationMs, state };
}

/** The rows of a run in the order of time. Pages, live entries and late ones come in any order, and may overlap. */
export class RunLog {
  rows: Row[] = [];
  private readonly byId = new Map<string, Row>();

  get(id: string): Row | undefined {
    return this.byId.get(id);
  }

  /** Adds those that are new, and returns them. */
  merge(coming: readonly Row[]): Row[] {
    const added = coming.filter(row => !this.byId.has(row.id) && this.byId.set(row.id, row));
    const isInOrder = added.every((row, i) => {
      const previous = added[i - 1] ?? this.rows.at(-1);
      return previous === undefined || before(previous, row) <= 0;
    });
    for (const row of added) this.rows.push(row);
    if (!isInOrder) this.rows.sort(before);
    return added;
  }

  /** Where a row is, or would be. */
  indexOf(row: Row): number {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const one = this.rows[middle];
      if (one !== undefined && before(one, row) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
