import assert from "node:assert/strict";
import { test } from "node:test";

import { createInbox } from "../src/inbox.js";
import type { LogEntry } from "../src/protocol.js";
import { idOf, Later, message, numbers, recall } from "./fakes.js";
import { FakeClock } from "./time.js";

const TIMING = { holdMs: 1_000, orderMs: 100, overlapMs: 50 };

/** An inbox and the messages that it delivered. */
function inbox(remember = 100, deliver: (entry: LogEntry) => Promise<void> = async () => {}) {
  const clock = new FakeClock();
  const given: LogEntry[] = [];
  const these = createInbox({ timing: TIMING, clock }, remember, (one) => {
    given.push(one);
    return deliver(one);
  });
  return { inbox: these, clock, given };
}

/** An inbox that has caught up. */
function online(remember?: number) {
  const all = inbox(remember);
  all.inbox.caughtUp();
  return all;
}

test("messages pushed during the catch-up wait for its end", async () => {
  const { inbox: these, given } = inbox();
  these.push(message(3));
  await these.pull(message(1));
  await these.pull(message(2));
  assert.deepEqual(numbers(given), [1, 2]);
  these.caughtUp();
  assert.deepEqual(numbers(given), [1, 2, 3]);
});

test("a message that is pushed and pulled is given once", async () => {
  const { inbox: these, clock, given } = inbox();
  these.push(message(1));
  await these.pull(message(1));
  these.caughtUp();
  these.push(message(1));
  await clock.pass(TIMING.orderMs);
  await these.pull(message(1));
  assert.deepEqual(numbers(given), [1]);
});

test("an older pushed message is given before a pulled one", async () => {
  const { inbox: these, given } = inbox();
  these.push(message(4));
  these.push(message(2));
  await these.pull(message(1));
  await these.pull(message(3));
  these.caughtUp();
  assert.deepEqual(numbers(given), [1, 2, 3, 4]);
});

test("a pushed message waits for the catch-up no longer than holdMs", async () => {
  const { inbox: these, clock, given } = inbox();
  these.push(message(2));
  await clock.pass(500);
  these.push(message(3));
  these.push(message(1));
  await clock.pass(499);
  assert.deepEqual(numbers(given), []);
  await clock.pass(1);
  assert.deepEqual(numbers(given), [1, 2]);
  await clock.pass(500);
  assert.deepEqual(numbers(given), [1, 2, 3]);
  assert.equal(clock.pending, 0);
});

test("messages pushed out of order within orderMs are given in order", async () => {
  const { inbox: these, clock, given } = online();
  these.push(message(3));
  await clock.pass(60);
  these.push(message(1));
  these.push(message(2));
  await clock.pass(39);
  assert.deepEqual(numbers(given), []);
  await clock.pass(1);
  assert.deepEqual(numbers(given), [1, 2, 3]);
  assert.equal(clock.pending, 0);
});

test("a message that comes after orderMs is given too", async () => {
  const { inbox: these, clock, given } = online();
  these.push(message(2));
  await clock.pass(100);
  these.push(message(1));
  await clock.pass(100);
  assert.deepEqual(numbers(given), [2, 1]);
});

test("after an interruption pushed messages wait for the next catch-up", async () => {
  const { inbox: these, clock, given } = online();
  these.interrupt();
  these.push(message(2));
  await clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(given), []);
  await these.pull(message(1));
  these.caughtUp();
  assert.deepEqual(numbers(given), [1, 2]);
});

test("a flush gives all waiting messages and leaves no timer", () => {
  const { inbox: these, clock, given } = inbox();
  these.push(message(2));
  these.push(message(1));
  these.flush();
  assert.deepEqual(numbers(given), [1, 2]);
  assert.equal(clock.pending, 0);
});

test("a pull resolves when the application has the message", async () => {
  const taken = new Later<void>();
  const { inbox: these } = inbox(100, () => taken.promise);
  let resolved = 0;
  for (let n = 0; n < 2; n++) void these.pull(message(1)).then(() => (resolved += 1));
  await new Promise(setImmediate);
  assert.equal(resolved, 0);
  taken.resolve();
  await new Promise(setImmediate);
  assert.equal(resolved, 2);
});

test("a recall has its place among messages, pushed or pulled", async () => {
  const { inbox: these, clock, given } = online();
  these.push(message(5));
  these.push(recall(1, 4));
  these.push(message(3));
  await clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(given), [3, 4, 5]);
  these.push(message(7));
  await these.pull(recall(2, 6));
  await these.pull(recall(3, 8));
  assert.deepEqual(numbers(given), [3, 4, 5, 6, 7, 8]);
});

test("a recall that is pushed and pulled is given once", async () => {
  const { inbox: these, clock, given } = online();
  these.push(recall(1, 2));
  await these.pull(recall(1, 2));
  await clock.pass(TIMING.orderMs);
  these.push(recall(1, 2));
  await clock.pass(TIMING.orderMs);
  assert.deepEqual(given, [recall(1, 2)]);
});

test("a message is not given from the moment that its recall arrives", async () => {
  const { inbox: these, clock, given } = online();
  these.push(message(1));
  assert.equal(these.isRecalled(idOf(1)), false);
  these.push(recall(1, 3));
  assert.equal(these.isRecalled(idOf(1)), true);
  await these.pull(message(1));
  await these.pull(message(2));
  await clock.pass(TIMING.orderMs);
  assert.deepEqual(given, [message(2), recall(1, 3)]);
});

test("recalls do not move the resume point", async () => {
  const { inbox: these, clock } = online();
  these.startAt(idOf(10));
  these.push(recall(1, 500));
  await clock.pass(TIMING.orderMs);
  assert.equal(these.resumePoint, idOf(10));
});

test("an ignored message is never given", async () => {
  const { inbox: these, given } = inbox();
  these.push(message(1));
  these.ignore(idOf(1));
  these.ignore(idOf(2));
  await these.pull(message(2));
  these.caughtUp();
  assert.deepEqual(given, []);
});

test("messages stored by an earlier client are not given again", async () => {
  const { inbox: these, given } = inbox();
  assert.equal(these.knows([idOf(200), idOf(100)]), true);
  for (const n of [100, 150, 200, 250]) await these.pull(message(n));
  assert.deepEqual(numbers(given), [150, 250]);
  assert.equal(these.resumePoint, idOf(150));
});

test("of too many stored ids the greatest are remembered", async () => {
  const { inbox: these, given } = inbox(2);
  these.knows([idOf(300), idOf(100), idOf(200)]);
  assert.equal(these.resumePoint, idOf(250));
  for (const n of [200, 300]) await these.pull(message(n));
  assert.deepEqual(numbers(given), []);
});

test("without stored ids there is no start", () => {
  const { inbox: these } = inbox();
  assert.equal(these.knows([]), false);
  assert.equal(these.resumePoint, "");
});

test("a resumption begins at the first given start", () => {
  const { inbox: these } = inbox();
  assert.equal(these.resumePoint, "");
  these.startAt(idOf(10));
  these.startAt(idOf(5));
  assert.equal(these.resumePoint, idOf(10));
});

test("after a complete catch-up a resumption begins the overlap before the last given message", async () => {
  const { inbox: these, clock } = inbox();
  these.startAt(idOf(10));
  these.push(message(200));
  await clock.pass(TIMING.holdMs);
  assert.equal(these.resumePoint, idOf(10), "something older may be missing");
  these.caughtUp();
  assert.equal(these.resumePoint, idOf(150));
  these.push(message(300));
  assert.equal(these.resumePoint, idOf(150), "it was not given on");
  await clock.pass(TIMING.orderMs);
  assert.equal(these.resumePoint, idOf(250));
});

test("messages given after an interruption do not move the resume point", async () => {
  const { inbox: these, clock } = online();
  these.push(message(100));
  await clock.pass(TIMING.orderMs);
  these.interrupt();
  these.push(message(500));
  await clock.pass(TIMING.holdMs);
  assert.equal(these.resumePoint, idOf(50));
});

test("pulled messages move the resume point only if they were pushed too", async () => {
  const { inbox: these, clock } = online();
  these.startAt(idOf(10));
  await these.pull(message(500));
  these.caughtUp();
  assert.equal(these.resumePoint, idOf(10));
  these.push(message(500));
  await clock.pass(TIMING.orderMs);
  assert.equal(these.resumePoint, idOf(450));
});

test("what a resumption has read moves the resume point", () => {
  const { inbox: these } = inbox();
  these.advance(idOf(100));
  these.advance(idOf(80));
  assert.equal(these.resumePoint, idOf(50));
});

test("the resume point is never before a forgotten id", async () => {
  const { inbox: these, given } = online(2);
  for (const n of [100, 110, 120, 130]) await these.pull(message(n));
  assert.equal(these.resumePoint, idOf(110));
  assert.deepEqual(numbers(given), [100, 110, 120, 130]);
});
