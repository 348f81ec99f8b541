import assert from "node:assert/strict";
import { test } from "node:test";

import { createSeen } from "../src/seen.js";

test("an id is new once", () => {
  const seen = createSeen(10);
  assert.equal(seen.add("a"), true);
  assert.equal(seen.add("a"), false);
  assert.equal(seen.add("b"), true);
});

test("beyond the capacity the oldest id is forgotten", () => {
  const seen = createSeen(2);
  for (const id of ["a", "b", "c"]) seen.add(id);
  assert.equal(seen.add("b"), false);
  assert.equal(seen.add("c"), false);
  assert.equal(seen.add("a"), true);
});

test("the greatest forgotten id is known", () => {
  const seen = createSeen(1);
  seen.add("b");
  assert.equal(seen.forgotten, "");
  seen.add("a");
  assert.equal(seen.forgotten, "b");
  seen.add("c");
  assert.equal(seen.forgotten, "b");
});
