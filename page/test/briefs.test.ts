import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { EntriesPage, Entry } from "../src/api/types";
import { Briefs } from "../src/run/briefs";

function entry(id: string): Entry {
  return { id, message: `message of ${id}` } as Entry;
}

function briefs(answer: (ids: string[]) => string[]) {
  mock.timers.enable({ apis: ["setTimeout"] });
  const asked: string[][] = [];
  const ask = async (ids: string[]): Promise<EntriesPage> => {
    asked.push(ids);
    return { entries: answer(ids).map(entry), before: null, after: null };
  };
  return { asked, briefs: new Briefs("r", () => {}, ask) };
}

async function pass(): Promise<void> {
  mock.timers.tick(50);
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

test("only what is in sight when a reader pauses is asked for, and once", async t => {
  t.after(() => mock.timers.reset());
  const { asked, briefs: one } = briefs(ids => ids);
  one.want(["a", "b"]);
  one.want(["b", "c"]);
  await pass();
  one.want(["b", "c"]);
  await pass();
  assert.deepEqual(asked, [["b", "c"]]);
  assert.equal(one.get("c"), "message of c");
});

test("what an answer had no room for is asked for again; what does not exist is not", async t => {
  t.after(() => mock.timers.reset());
  const { asked, briefs: one } = briefs(ids => ids.filter(id => id !== "gone").slice(0, 1));
  one.want(["a", "b", "gone"]);
  for (let i = 0; i < 6; i++) await pass();
  assert.deepEqual(asked, [["a", "b", "gone"], ["b", "gone"], ["gone"]]);
});

test("only so many messages are kept", () => {
  const { briefs: one } = briefs(ids => ids);
  mock.timers.reset();
  one.put(Array.from({ length: 6000 }, (_, i) => entry(String(i))));
  assert.equal(one.get("0"), undefined);
  assert.equal(one.get("5999"), "message of 5999");
});
