import assert from "node:assert/strict";
import { test } from "node:test";
import { fill, isKnown } from "../src/i18n/language";
import { en, type TextKey, zh } from "../src/i18n/texts";

test("both languages fill in the same values", () => {
  const names = (text: string) => [...new Set([...text.matchAll(/\{(\w+)/g)].map(match => match[1]))].sort();
  for (const key of Object.keys(en) as TextKey[]) assert.deepEqual(names(zh[key]), names(en[key]), key);
});

test("a number has the form that goes with it", () => {
  assert.equal(fill("{n} {n|entry|entries}", { n: 1 }, "en"), "1 entry");
  assert.equal(fill("{n} {n|entry|entries}", { n: 12345 }, "en"), "12,345 entries");
});

test("a language that no formatter takes is not asked for", () => {
  const tags = ["en", "en-US", "zh-Hans-CN", "C", "en-US@posix", ""];
  assert.deepEqual(tags.map(isKnown), [true, true, true, false, false, false]);
});
