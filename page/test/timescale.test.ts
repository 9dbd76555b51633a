import assert from "node:assert/strict";
import { test } from "node:test";
import { GAP_WIDTH, joined, TimeScale } from "../src/model/timescale";

const SECOND = 1_000_000;

test("spans that overlap are joined", () => {
  const spans = [
    { from: 5, to: 6 },
    { from: 0, to: 2 },
    { from: 1, to: 3 },
    { from: 3, to: 4 },
  ];
  assert.deepEqual(joined(spans), [
    { from: 0, to: 4 },
    { from: 5, to: 6 },
  ]);
});

test("a run without gaps is drawn to scale", () => {
  const scale = new TimeScale({ from: 0, to: 100 }, 1000, [{ from: 0, to: 100 }]);
  assert.deepEqual(
    [0, 25, 100, 200, -5].map(at => scale.x(at)),
    [0, 250, 1000, 1000, 0],
  );
  assert.equal(scale.gaps.length, 0);
});

test("a gap above a twentieth is 28 pixels wide, and what happened has the rest", () => {
  const busy = [
    { from: 0, to: 40 },
    { from: 3000, to: 3040 },
    { from: 3060, to: 3100 },
  ];
  const scale = new TimeScale({ from: 0, to: 3100 }, 1028, busy);
  assert.equal(scale.gaps.length, 1);
  assert.equal(scale.x(3000) - scale.x(40), GAP_WIDTH);
  assert.ok(Math.abs(scale.x(40) - 1000 * (40 / 140)) < 1e-6);
  assert.ok(Math.abs(scale.x(3100) - 1028) < 1e-6);
});

test("a pixel maps back to its moment, also within a gap", () => {
  const busy = [
    { from: 0, to: 10 },
    { from: 90, to: 100 },
  ];
  const scale = new TimeScale({ from: 0, to: 100 }, 500, busy);
  for (const at of [0, 3, 10, 50, 90, 95, 100])
    assert.ok(Math.abs(scale.at(scale.x(at)) - at) < 1e-9, `${at}`);
});

test("ticks are round, at their real place, apart, and none is in a gap", () => {
  const busy = [
    { from: 0, to: 10 * SECOND },
    { from: 1000 * SECOND, to: 1010 * SECOND },
  ];
  const scale = new TimeScale({ from: 0, to: 1010 * SECOND }, 1000, busy);
  const ticks = scale.ticks(80);
  assert.ok(ticks.length > 4);
  for (const [i, tick] of ticks.entries()) {
    assert.ok(Math.abs(scale.at(tick.x) - tick.at) < 1);
    assert.equal(tick.at % SECOND, 0);
    assert.ok(tick.at <= 10 * SECOND || tick.at >= 1000 * SECOND);
    const next = ticks[i + 1];
    if (next) assert.ok(next.x - tick.x >= 48);
  }
});

test("a window into a run shows its part alone", () => {
  const scale = new TimeScale({ from: 40, to: 60 }, 200, [{ from: 0, to: 100 }]);
  assert.deepEqual(
    [40, 50, 60].map(at => scale.x(at)),
    [0, 100, 200],
  );
});

test("ticks of a window are round from the beginning of the run on", () => {
  const scale = new TimeScale(
    { from: 1.3 * SECOND, to: 9.3 * SECOND },
    800,
    [{ from: 0, to: 10 * SECOND }],
    0,
  );
  assert.deepEqual(
    scale.ticks(90).map(tick => tick.at / SECOND),
    [2, 3, 4, 5, 6, 7, 8, 9],
  );
});

test("a thousand gaps leave half of the picture to what happened", () => {
  const busy = Array.from({ length: 15 }, (_, i) => ({ from: i * 100, to: i * 100 + 1 }));
  const scale = new TimeScale({ from: 0, to: 1500 }, 300, busy);
  assert.ok(scale.gaps.length * GAP_WIDTH <= 150);
});

test("entries at a steady pace have no gaps between them, but a pause has", () => {
  const steady = Array.from({ length: 11 }, (_, i) => ({ from: i * SECOND, to: i * SECOND }));
  assert.equal(new TimeScale({ from: 0, to: 10 * SECOND }, 1000, steady).gaps.length, 0);
  const paused = [...steady, { from: 100 * SECOND, to: 100 * SECOND }];
  const { gaps } = new TimeScale({ from: 0, to: 100 * SECOND }, 1000, paused);
  assert.deepEqual(
    gaps.map(gap => [gap.from, gap.to]),
    [[10 * SECOND, 100 * SECOND]],
  );
});

test("a run of one moment has a scale", () => {
  const scale = new TimeScale({ from: 5, to: 5 }, 100, [{ from: 5, to: 5 }]);
  assert.ok(Number.isFinite(scale.x(5)));
  assert.deepEqual(scale.ticks(80), []);
});
