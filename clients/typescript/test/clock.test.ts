import assert from "node:assert/strict";
import { test } from "node:test";

import { backoffMs, sleep, systemClock } from "../src/clock.js";
import { FakeClock, settle } from "./time.js";

const TIMING = { backoff: { baseMs: 100, maxMs: 1_000 } };
const waitMs = (attempt: number, random: () => number) => backoffMs({ timing: TIMING, random }, attempt);

test("the wait doubles up to its limit", () => {
  const full = [0, 1, 2, 3, 4, 1_000].map((attempt) => waitMs(attempt, () => 1));
  assert.deepEqual(full, [100, 200, 400, 800, 1_000, 1_000]);
});

test("jitter takes up to half of the wait", () => {
  assert.equal(waitMs(0, () => 0), 50);
  assert.equal(waitMs(4, () => 0.5), 750);
});

test("a sleep ends at its time and leaves no timer", async () => {
  const clock = new FakeClock();
  let over = false;
  void sleep(clock, 50, new AbortController().signal).then(() => (over = true));
  await clock.pass(49);
  assert.equal(over, false);
  await clock.pass(1);
  assert.equal(over, true);
  assert.equal(clock.pending, 0);
});

test("an aborted sleep ends and leaves no timer", async () => {
  const clock = new FakeClock();
  const abort = new AbortController();
  let over = false;
  void sleep(clock, 50, abort.signal).then(() => (over = true));
  abort.abort();
  await settle();
  assert.equal(over, true);
  assert.equal(clock.pending, 0);
});

test("a sleep after the abort ends at once", async () => {
  const clock = new FakeClock();
  await sleep(clock, 50, AbortSignal.abort());
  assert.equal(clock.pending, 0);
});

test("the system clock wakes once, and never after cancelling", async () => {
  const woken: string[] = [];
  const before = Date.now();
  systemClock.after(1, () => woken.push("cancelled")).cancel();
  await new Promise<void>((resolve) => systemClock.after(5, () => (woken.push("woken"), resolve())));
  assert.deepEqual(woken, ["woken"]);
  assert(systemClock.now() >= before);
});
