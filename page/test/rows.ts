// Rows for tests: what a test does not name is of no importance to it.
import type { Row } from "../src/model/log";

let number = 0;

export function row(values: Partial<Row> = {}): Row {
  number++;
  return {
    id: `id-${String(number).padStart(8, "0")}`,
    at: number * 1000,
    level: "info",
    category: "workflow",
    step: null,
    agent: null,
    tool: null,
    name: null,
    operation: null,
    parent: null,
    durationMs: null,
    state: null,
    ...values,
  };
}

/** The entries that begin and end an operation, in milliseconds. */
export function operation(id: string, from: number, to: number | null, values: Partial<Row> = {}): Row[] {
  const own = { operation: id, name: id, ...values };
  const begin = row({ ...own, at: from * 1000, level: "info" });
  return to === null ? [begin] : [begin, row({ ...own, at: to * 1000, durationMs: to - from })];
}
