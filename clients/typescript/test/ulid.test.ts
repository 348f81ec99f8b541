import assert from "node:assert/strict";
import { test } from "node:test";

import { firstIdAt, timeOf } from "../src/ulid.js";

test("the time of an id matches the example of the ULID specification", () => {
  assert.equal(timeOf("01ARZ3NDEKTSV4RRFFQ69G5FAV"), 1_469_922_850_259);
});

test("firstIdAt is the smallest id of its millisecond", () => {
  const first = firstIdAt(1_469_922_850_259);
  assert.equal(first, "01ARZ3NDEK0000000000000000");
  assert.equal(timeOf(first), 1_469_922_850_259);
});

test("ids sort by time", () => {
  const times = [0, 1, 31, 32, 1_023, 1_024, 1_750_000_000_000, 1_750_000_000_001, 2 ** 48 - 1];
  const ids = times.map(firstIdAt);
  assert.deepEqual([...ids].sort(), ids);
  assert.deepEqual(ids.map(timeOf), times);
});

test("times out of range become the nearest possible time", () => {
  assert.equal(firstIdAt(-5), "0".repeat(26));
  assert.equal(timeOf(firstIdAt(2 ** 50)), 2 ** 48 - 1);
  assert.equal(timeOf(firstIdAt(1.9)), 1);
});
