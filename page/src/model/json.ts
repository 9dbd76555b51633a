// A JSON value as the lines of a tree of which only opened branches are walked through.

export type Path = readonly (string | number)[];

export interface JsonLine {
  readonly path: Path;
  /** What opens and closes it. */
  readonly id: string;
  readonly depth: number;
  readonly value: unknown;
  /** How many values are within it; null of a value that has none. */
  readonly size: number | null;
  readonly isOpen: boolean;
}

export function isBranch(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function entriesOf(value: object): [string | number, unknown][] {
  return Array.isArray(value) ? value.map((one, i) => [i, one]) : Object.entries(value);
}

export function idOf(path: Path): string {
  return JSON.stringify(path);
}

/** A path as Python and JavaScript write it: `calls[0].arguments["a b"]`. */
export function pathText(path: Path): string {
  return path
    .map((part, i) => {
      if (typeof part === "number") return `[${part}]`;
      if (!/^[\p{L}_$][\p{L}\p{N}_$]*$/u.test(part)) return `[${JSON.stringify(part)}]`;
      return i === 0 ? part : `.${part}`;
    })
    .join("");
}

/** @param opened the ids of the branches that are open; the value itself always is. */
export function jsonLines(value: unknown, opened: ReadonlySet<string>): JsonLine[] {
  const lines: JsonLine[] = [];
  const waiting: Omit<JsonLine, "size" | "isOpen">[] = [];
  const push = (branch: object, path: Path, depth: number) => {
    for (const [key, one] of entriesOf(branch).reverse())
      waiting.push({ path: [...path, key], id: idOf([...path, key]), depth, value: one });
  };
  if (!isBranch(value)) return [{ path: [], id: "[]", depth: 0, value, size: null, isOpen: false }];
  push(value, [], 0);
  for (let line = waiting.pop(); line !== undefined; line = waiting.pop()) {
    const { value: one } = line;
    const size = isBranch(one) ? (Array.isArray(one) ? one.length : Object.keys(one).length) : null;
    const isOpen = isBranch(one) && size !== 0 && opened.has(line.id);
    lines.push({ ...line, size, isOpen });
    if (isOpen) push(one, line.path, line.depth + 1);
  }
  return lines;
}

const DEEPEST_FIRST = 3;

/** The branches that a first look shows: three levels from the top, until `most` lines are there. */
export function openedFirst(value: unknown, most: number): Set<string> {
  const opened = new Set<string>();
  let lines = isBranch(value) ? entriesOf(value).length : 1;
  let level: [Path, unknown][] = isBranch(value) ? entriesOf(value).map(([key, one]) => [[key], one]) : [];
  for (let depth = 1; depth < DEEPEST_FIRST && level.length > 0 && lines <= most; depth++) {
    const next: [Path, unknown][] = [];
    for (const [path, one] of level) {
      if (!isBranch(one)) continue;
      const within = entriesOf(one);
      if (lines + within.length > most) continue;
      lines += within.length;
      opened.add(idOf(path));
      for (const [key, inner] of within) next.push([[...path, key], inner]);
    }
    level = next;
  }
  return opened;
}

/** The paths of keys and values with this text, in any case; `most` of them. */
export function findInJson(value: unknown, text: string, most = 1000): Path[] {
  const wanted = text.toLowerCase();
  const found: Path[] = [];
  const waiting: [Path, unknown][] = [[[], value]];
  for (let one = waiting.pop(); one !== undefined && found.length < most; one = waiting.pop()) {
    const [path, here] = one;
    const key = path.at(-1);
    const isKey = typeof key === "string" && key.toLowerCase().includes(wanted);
    if (path.length > 0 && (isKey || (!isBranch(here) && String(here).toLowerCase().includes(wanted))))
      found.push(path);
    if (isBranch(here))
      for (const [name, inner] of entriesOf(here).reverse()) waiting.push([[...path, name], inner]);
  }
  return found;
}
