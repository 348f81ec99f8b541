import assert from "node:assert/strict";
import { test } from "node:test";

import { Delivery } from "../src/delivery.js";
import type { Message } from "../src/protocol.js";
import { Later, message, numbers } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** A delivery to `take`, with the messages that it gave and the errors. */
function delivery(take: (message: Message) => void | Promise<void> = () => {}) {
  const clock = new FakeClock();
  const end = new AbortController();
  const given: Message[] = [];
  const failures: unknown[] = [];
  const dropped: Message[] = [];
  const these = new Delivery<Message>({
    take: (one) => {
      given.push(one);
      return take(one);
    },
    dropped: (one) => void dropped.push(one),
    failed: (thrown) => failures.push(thrown),
    backoff: { baseMs: 100, maxMs: 400 },
    clock,
    random: () => 1,
    signal: end.signal,
  });
  return { delivery: these, clock, end, given, failures, dropped };
}

test("messages are given one at a time and in order", async () => {
  const first = new Later<void>();
  const { delivery: these, given } = delivery((one) => (one.content === "m1" ? first.promise : undefined));
  void these.give(message(1));
  const second = these.give(message(2));
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
    void these.give(message(1)).then(() => (taken = true));
    void these.give(message(2));
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
  void these.give(message(1));
  void these.give(message(2));
  await settle();
  end.abort();
  await these.settled();
  assert.deepEqual(numbers(given), [1, 1, 2]);
  assert.deepEqual(numbers(dropped), [1, 2]);
  assert.equal(clock.pending, 0);
});
