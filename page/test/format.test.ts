import assert from "node:assert/strict";
import { test } from "node:test";
import {
  durationText,
  firstLine,
  microsecondsOf,
  piecesOf,
  roundDurationText,
  UNITS,
  visible,
} from "../src/model/format";

test("a duration has three figures and the unit that fits", () => {
  const cases: [number, string][] = [
    [0, "0 ms"],
    [0.85, "850 µs"],
    [12.36, "12.4 ms"],
    [999, "999 ms"],
    [3210, "3.21 s"],
    [60_000, "1 min 00 s"],
    [245_000, "4 min 05 s"],
    [7_500_000, "2 h 05 min"],
    [200_000_000, "2 d 08 h"],
    [-3000, "−3 s"],
  ];
  assert.deepEqual(
    cases.map(([value]) => durationText(value, UNITS.en)),
    cases.map(([, text]) => text),
  );
});

test("a duration is told in the reader's language, and a round one in short", () => {
  assert.equal(durationText(599_000, UNITS.zh), "9 分 59 秒");
  assert.deepEqual(
    [120_000, 125_000, 0].map(value => roundDurationText(value, UNITS.en)),
    ["2 min", "2 min 05 s", "0"],
  );
});

test("microseconds of an ISO time survive", () => {
  assert.equal(microsecondsOf("1970-01-01T00:00:01.000002Z"), 1_000_002);
  assert.equal(microsecondsOf("1970-01-01T00:00:01+00:00"), 1_000_000);
});

test("what cannot be seen is shown as an escape", () => {
  assert.equal(visible("a\u0000b\u202ec\u001b[31m\n"), "a\\x00b\\u202ec\\x1b[31m\n");
});

test("a row has the first part of a long text, in one line", () => {
  assert.equal(firstLine("one\n  two"), "one ⏎ two");
  assert.equal(firstLine("x".repeat(1_000_000)).length, 401);
});

test("what was sought is a piece of its own, whatever it is made of", () => {
  assert.deepEqual(piecesOf("Timeout: timeout", "TIMEOUT"), ["", "Timeout", ": ", "timeout", ""]);
  assert.deepEqual(piecesOf("a[0].b* (\\d+)", "[0].b* (\\d+)"), ["a", "[0].b* (\\d+)", ""]);
  assert.deepEqual(piecesOf("x^y$z|{1}?/-", "^y$z|{1}?/-"), ["x", "^y$z|{1}?/-", ""]);
  assert.deepEqual(piecesOf("第一章 İstanbul", "第"), ["", "第", "一章 İstanbul"]);
  assert.deepEqual(piecesOf("nothing of it", "else"), ["nothing of it"]);
  assert.deepEqual(piecesOf("all", ""), ["all"]);
});
