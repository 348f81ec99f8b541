import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError } from "../src/errors.js";
import { post } from "../src/post.js";
import { Later } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

const RECEIPT = { id: "1", timestamp: 5 };
const TIMING = { idempotentMs: 10_000, backoff: { baseMs: 100, maxMs: 400 } };

/** A send of `text` to a server with these answers. The last one is repeated. */
function sending(...answers: (() => Promise<typeof RECEIPT>)[]) {
  const clock = new FakeClock();
  const end = new AbortController();
  const texts: string[] = [];
  const send = (text: string) => {
    texts.push(text);
    return answers[Math.min(texts.length, answers.length) - 1]!();
  };
  const sent = post({ timing: TIMING, clock, random: () => 1, signal: () => end.signal }, send, "text");
  return { sent, clock, end, texts };
}

const accept = async () => RECEIPT;
const never = () => new Later<typeof RECEIPT>().promise;
const fail = (code: string, more = {}) => async () => {
  throw new ChatError(code, "no", more);
};

test("a send resolves with its answer and leaves no timer", async () => {
  const { sent, clock, texts } = sending(accept);
  assert.deepEqual(await sent, RECEIPT);
  assert.deepEqual([texts, clock.pending], [["text"], 0]);
});

for (const code of ["network", "unavailable", "rate_limited", "token"]) {
  test(`after ${code} a send is repeated with growing waits`, async () => {
    const { sent, clock, texts } = sending(fail(code), fail(code), accept);
    await clock.pass(99);
    assert.equal(texts.length, 1);
    await clock.pass(1);
    assert.equal(texts.length, 2);
    await clock.pass(199);
    assert.equal(texts.length, 2);
    await clock.pass(1);
    assert.deepEqual(await sent, RECEIPT);
    assert.deepEqual([texts, clock.pending], [Array(3).fill("text"), 0]);
  });
}

for (const code of ["unavailable", "rate_limited"]) {
  test(`a send is repeated a little after the time that the server says (${code})`, async () => {
    const { sent, clock, texts } = sending(fail(code, { retryAfterMs: 5_000 }), accept);
    await clock.pass(5_099);
    assert.equal(texts.length, 1);
    await clock.pass(1);
    await sent;
  });
}

test("a send that only the limit has refused is given up with its error", async () => {
  const { sent, clock } = sending(fail("rate_limited", { retryAfterMs: 3_000 }));
  const refused = assert.rejects(sent, { name: "ChatError", code: "rate_limited", retryAfterMs: 3_000 });
  await clock.pass(TIMING.idempotentMs);
  await refused;
  await settle();
  assert.equal(clock.pending, 0);
});

for (const [name, ...answers] of [
  ["before", fail("network"), fail("rate_limited", { retryAfterMs: 20_000 })],
  ["after", fail("rate_limited"), never],
] as const) {
  test(`a send without an answer ${name} the limit is given up as unacknowledged`, async () => {
    const { sent, clock } = sending(...answers);
    const refused = assert.rejects(sent, { code: "unacknowledged" });
    await clock.pass(TIMING.idempotentMs);
    await refused;
  });
}

for (const code of ["bad_request", "unauthorized", "forbidden", "muted", "banned", "request_id_reused", "novel"]) {
  test(`a refusal rejects a send for good (${code})`, async () => {
    const { sent, clock, texts } = sending(fail(code, { until: 7 }));
    await assert.rejects(sent, { name: "ChatError", code, until: 7 });
    assert.deepEqual([texts.length, clock.pending], [1, 0]);
  });
}

for (const [name, answer] of [["fails", fail("network")], ["never comes", never]] as const) {
  test(`a send is not repeated after the server may have forgotten it (the answer ${name})`, async () => {
    const { sent, clock, texts } = sending(answer);
    const refused = assert.rejects(sent, { code: "unacknowledged" });
    await clock.pass(TIMING.idempotentMs);
    await refused;
    await settle();
    assert.equal(clock.pending, 0);
    const { length } = texts;
    await clock.pass(TIMING.idempotentMs);
    assert.equal(texts.length, length);
  });

  test(`a send rejects at the end (the answer ${name})`, async () => {
    const { sent, clock, end } = sending(answer);
    const refused = assert.rejects(sent, { code: "closed" });
    await settle();
    end.abort();
    await refused;
    await settle();
    assert.equal(clock.pending, 0);
  });
}
