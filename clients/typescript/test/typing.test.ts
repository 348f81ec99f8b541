import assert from "node:assert/strict";
import { test } from "node:test";

import { createTypist } from "../src/typing.js";
import { FakeClock } from "./time.js";

function typist() {
  const clock = new FakeClock();
  const told: string[] = [];
  const these = createTypist({ clock, timing: { typingEveryMs: 3_000 } });
  const tell = (to: string) => these(to, (text) => told.push(JSON.parse(text).receiverId));
  return { clock, told, tell };
}

test("each receiver is told once in a while", async () => {
  const { clock, told, tell } = typist();
  tell("ann");
  await clock.pass(2_000);
  tell("ann");
  tell("cara");
  await clock.pass(999);
  tell("ann");
  assert.deepEqual(told, ["ann", "cara"]);
  await clock.pass(1);
  tell("cara");
  tell("ann");
  tell("ann");
  assert.deepEqual(told, ["ann", "cara", "ann"]);
});

test("a clock that is set back does not silence it", async () => {
  const { clock, told, tell } = typist();
  await clock.pass(3_600_000);
  tell("ann");
  await clock.pass(-3_600_000);
  tell("ann");
  tell("ann");
  assert.deepEqual(told, ["ann", "ann"]);
});
