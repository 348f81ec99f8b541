import assert from "node:assert/strict";
import { test } from "node:test";

import { createEvents } from "../src/events.js";
import type { Content, LogEntry, Message } from "../src/protocol.js";
import { Later, message, numbers } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** Events with the callback `take`, and the messages that it was given, and the errors. */
function delivery(take: (message: Message) => void | Promise<void> = () => {}) {
  const clock = new FakeClock();
  const end = new AbortController();
  const given: Message[] = [];
  const failures: unknown[] = [];
  const dropped: LogEntry[] = [];
  const settings = {
    timing: { backoff: { baseMs: 100, maxMs: 400 } }, clock, random: () => 1, signal: () => end.signal,
  };
  const events = createEvents<Content>(settings, {
    onMessage: (one) => {
      given.push(one);
      return take(one);
    },
    onError: ({ code, cause }) => void failures.push(code === "handler" && cause),
  });
  const inbox = { isRecalled: () => false, forget: (one: LogEntry) => void dropped.push(one) };
  return { delivery: (one: Message) => events.give(one, inbox), clock, end, given, failures, dropped };
}

test("messages are given one at a time and in order", async () => {
  const first = new Later<void>();
  const { delivery: these, given } = delivery((one) => (one.content === "m1" ? first.promise : undefined));
  void these(message(1));
  const second = these(message(2));
  await settle();
  assert.deepEqual(numbers(given), [1]);
  first.resolve();
  await second;
  assert.deepEqual(numbers(given), [1, 2]);
});

for (const [way, fail] of [
  ["throws", (error: Error): void => { throw error; }],
  ["rejects", (error: Error) => Promise.reject(error)],
] as const) {
  test(`a message is given again before any other if the application ${way}`, async () => {
    const troubles = [new Error("first"), new Error("second")];
    const expected = [...troubles];
    const { delivery: these, clock, given, failures } = delivery(() => {
      const trouble = troubles.shift();
      return trouble === undefined ? undefined : fail(trouble);
    });
    let taken = false;
    void these(message(1)).then(() => (taken = true));
    void these(message(2));
    await settle();
    assert.deepEqual(numbers(given), [1]);
    await clock.pass(100);
    assert.deepEqual(numbers(given), [1, 1]);
    assert.equal(taken, false);
    await clock.pass(200);
    assert.deepEqual(numbers(given), [1, 1, 1, 2]);
    assert.equal(taken, true);
    assert.deepEqual(failures, expected);
  });
}

test("after the abort a failed message is given once more only", async () => {
  const { delivery: these, clock, end, given, dropped } = delivery(() => { throw new Error("never"); });
  void these(message(1));
  const last = these(message(2));
  await settle();
  end.abort();
  await last;
  assert.deepEqual(numbers(given), [1, 1, 2]);
  assert.deepEqual(numbers(dropped), [1, 2]);
  assert.equal(clock.pending, 0);
});
