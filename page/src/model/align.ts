// Two runs side by side: their operations aligned by name, level by level.
import { type Item, isOperation, type Operation, type Tree } from "./tree";

export interface Pair {
  readonly name: string;
  readonly depth: number;
  /** null: the other run alone has it. */
  readonly left: Operation | null;
  readonly right: Operation | null;
}

// Beyond this many comparisons names are matched in their order, without looking for the longest alignment.
const MOST_COMPARED = 4_000_000;

/** Pairs from the top, each before those within it. */
export function align(left: Tree, right: Tree): Pair[] {
  const pairs: Pair[] = [];
  const waiting = pairsOf(left.items, right.items, 0).reverse();
  for (let pair = waiting.pop(); pair !== undefined; pair = waiting.pop()) {
    pairs.push(pair);
    const within = pairsOf(pair.left?.children ?? [], pair.right?.children ?? [], pair.depth + 1);
    for (const one of within.reverse()) waiting.push(one);
  }
  return pairs;
}

function pairsOf(left: readonly Item[], right: readonly Item[], depth: number): Pair[] {
  const a = left.filter(isOperation);
  const b = right.filter(isOperation);
  const pairs: Pair[] = [];
  const push = (one: Operation | null, other: Operation | null) =>
    pairs.push({ name: nameOf(one ?? (other as Operation)), depth, left: one, right: other });
  let i = 0;
  let j = 0;
  for (const [matchedLeft, matchedRight] of [
    ...common(a.map(nameOf), b.map(nameOf)),
    [a.length, b.length] as const,
  ]) {
    while (i < matchedLeft) push(a[i++] as Operation, null);
    while (j < matchedRight) push(null, b[j++] as Operation);
    if (i < a.length && j < b.length) push(a[i++] as Operation, b[j++] as Operation);
  }
  return pairs;
}

function nameOf(operation: Operation): string {
  return operation.name ?? operation.own[0]?.step ?? "…";
}

/** The places of a longest common subsequence of both. */
export function common(a: readonly string[], b: readonly string[]): [number, number][] {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const middleA = a.slice(start, a.length - end);
  const middleB = b.slice(start, b.length - end);
  const find = middleA.length * middleB.length > MOST_COMPARED ? inOrder : longest;
  return [
    ...Array.from({ length: start }, (_, i): [number, number] => [i, i]),
    ...find(middleA, middleB).map(([i, j]): [number, number] => [i + start, j + start]),
    ...Array.from({ length: end }, (_, i): [number, number] => [a.length - end + i, b.length - end + i]),
  ];
}

function longest(a: readonly string[], b: readonly string[]): [number, number][] {
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] as number;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const found: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) found.push([i++, j++]);
    else if (at(i + 1, j) >= at(i, j + 1)) i++;
    else j++;
  }
  return found;
}

/** Each name with the next one of its kind. */
function inOrder(a: readonly string[], b: readonly string[]): [number, number][] {
  const places = new Map<string, number[]>();
  for (const [j, name] of b.entries()) {
    const list = places.get(name);
    if (list) list.push(j);
    else places.set(name, [j]);
  }
  for (const list of places.values()) list.reverse();
  const found: [number, number][] = [];
  let next = 0;
  for (const [i, name] of a.entries()) {
    const list = places.get(name) ?? [];
    while (list.length > 0 && (list.at(-1) as number) < next) list.pop();
    const j = list.pop();
    if (j === undefined) continue;
    found.push([i, j]);
    next = j + 1;
  }
  return found;
}

/** Whether a reader who looks for differences wants to see it: a tenth and 20 ms, errors, an end, or one side alone. */
export function differs({ left, right }: Pair): boolean {
  if (left === null || right === null || left.state !== right.state || left.errors !== right.errors)
    return true;
  const [one, other] = [left.durationMs ?? 0, right.durationMs ?? 0];
  return Math.abs(one - other) > Math.max(20, Math.max(one, other) / 10);
}
