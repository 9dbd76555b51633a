import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_FILTERS, type Place, placeOf, searchOf } from "../src/model/place";

test("every part of a place is in its address", () => {
  const place: Place = {
    view: "run",
    run: "a&b=c ?#é/规",
    entry: "e",
    mode: "log",
    detail: "operations",
    zoom: { from: 1, to: 5 },
    compare: "",
    with: "",
    filters: {
      level: "error",
      category: ["x", "y"],
      step: ["a b"],
      agent: ["+"],
      text: "50 % &",
      operation: ["o"],
      since: "2026-11-29T00:00:00Z",
      until: "2026-11-30T00:00:00Z",
    },
    state: ["no end recorded"],
    withErrors: true,
    dimension: "step",
    name: ["n"],
  };
  assert.deepEqual(placeOf(searchOf(place)), place);
});

test("views have the addresses that links elsewhere use", () => {
  assert.equal(placeOf("").view, "runs");
  assert.equal(placeOf("?run=r&entry=e").view, "run");
  assert.equal(placeOf("?view=statistics").view, "statistics");
  assert.equal(placeOf("?view=health").view, "health");
  assert.equal(placeOf("?compare=a&with=b").view, "compare");
  assert.equal(searchOf({ view: "runs", filters: NO_FILTERS }), "./");
});

test("an address with nonsense is a place nevertheless", () => {
  const place = placeOf("?run=r&zoom=9-1&mode=x&detail=y");
  assert.deepEqual([place.zoom, place.mode, place.detail], [null, "waterfall", "all"]);
});
