import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_REQUEST_ID_BYTES } from "../src/protocol.js";
import { randomId } from "../src/random.js";

test("an id has 128 bits, with and without crypto", (context) => {
  assert.match(randomId(), /^[0-9a-f]{32}$/);
  const { crypto } = globalThis;
  Object.defineProperty(globalThis, "crypto", { value: undefined, configurable: true });
  context.after(() => Object.defineProperty(globalThis, "crypto", { value: crypto, configurable: true }));
  const ids = Array.from({ length: 1_000 }, randomId);
  assert.equal(new Set(ids).size, ids.length);
  assert(ids.every((id) => /^[0-9a-z]+-[0-9a-f]{32}$/.test(id) && id.length <= MAX_REQUEST_ID_BYTES), ids[0]);
});
