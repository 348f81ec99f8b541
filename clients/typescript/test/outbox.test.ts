import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError } from "../src/errors.js";
import { createOutbox, type Outbox, type Transport } from "../src/outbox.js";
import type { Content } from "../src/protocol.js";
import { DEFAULT_TIMING } from "../src/timing.js";
import { FakeClock, settle } from "./time.js";

const TIMING = { ...DEFAULT_TIMING, ackMs: 1_000, idempotentMs: 60_000, backoff: { baseMs: 100, maxMs: 400 } };
const BEN = { receiverId: "ben" };
const ACK = { id: "1", timestamp: 5 };

class FakeTransport implements Transport {
  readonly texts: string[] = [];
  heardAt = 0;
  probes = 0;

  constructor(readonly clock: FakeClock) {}

  send(text: string): void {
    this.texts.push(text);
  }

  probe(silenceMs: number): void {
    if (this.clock.now() - this.heardAt >= silenceMs) this.probes += 1;
  }

  /** The request ids of the sent frames. */
  get requests(): string[] {
    return this.texts.map((text) => JSON.parse(text).requestId);
  }
}

function outbox() {
  const clock = new FakeClock();
  const limits: ChatError[] = [];
  const these = createOutbox({ timing: TIMING, clock, random: () => 1 }, (error) => limits.push(error));
  return { outbox: these, clock, transport: new FakeTransport(clock), limits };
}

function connected() {
  const all = outbox();
  all.outbox.connected(all.transport);
  return all;
}

function acknowledge(these: Outbox, requestId: string): void {
  these.acknowledged({ type: "ACK", requestId, ...ACK });
}

/** The server says that the user has sent too much. */
function limit(these: Outbox, requestId: string, retryAfterMs?: unknown): boolean {
  return these.refused(new ChatError("rate_limited", "too much", { retryAfterMs }), requestId);
}

function refuse(these: Outbox, requestId: string | undefined, code: string): boolean {
  return these.refused(new ChatError(code, "no"), requestId);
}

test("a private message and a group message have the frames of the protocol", () => {
  const { outbox: these, transport } = connected();
  void these.send(BEN, { a: [1, "ü"] }, "r1");
  void these.send({ groupId: "g" }, "hi", "r2");
  assert.deepEqual(transport.texts.map((text) => JSON.parse(text)), [
    { type: "unicast", receiverId: "ben", content: { a: [1, "ü"] }, requestId: "r1" },
    { type: "multicast", groupId: "g", content: "hi", requestId: "r2" },
  ]);
});

test("a send resolves with its acknowledgement and leaves no timer", async () => {
  const { outbox: these, clock } = connected();
  const sent = these.send(BEN, 1, "r1");
  assert.equal(these.size, 1);
  acknowledge(these, "r1");
  assert.deepEqual(await sent, ACK);
  assert.equal(these.size, 0);
  assert.equal(clock.pending, 0);
});

test("unknown and repeated acknowledgements change nothing", async () => {
  const { outbox: these } = connected();
  const sent = these.send(BEN, 1, "r1");
  acknowledge(these, "r0");
  assert.equal(these.size, 1);
  acknowledge(these, "r1");
  acknowledge(these, "r1");
  await sent;
});

test("messages without a connection are sent when there is one", () => {
  const { outbox: these, clock, transport } = outbox();
  void these.send(BEN, 1, "r1");
  assert.equal(clock.pending, 0, "its time has not begun");
  these.connected(transport);
  assert.deepEqual(transport.requests, ["r1"]);
});

test("sends to one addressee are sequential, and to several are parallel", () => {
  const { outbox: these, transport } = connected();
  void these.send(BEN, 1, "r1");
  void these.send(BEN, 2, "r2");
  void these.send({ receiverId: "cara" }, 3, "r3");
  void these.send({ groupId: "ben" }, 4, "r4");
  assert.deepEqual(transport.requests, ["r1", "r3", "r4"]);
  acknowledge(these, "r1");
  assert.deepEqual(transport.requests, ["r1", "r3", "r4", "r2"]);
});

test("an unacknowledged send is repeated with the same bytes and growing waits", async () => {
  const { outbox: these, clock, transport } = connected();
  void these.send(BEN, { a: 1 }, "r1");
  const at: number[] = [];
  for (let seconds = 1; seconds <= 24; seconds++) {
    const before = transport.texts.length;
    await clock.pass(1_000);
    if (transport.texts.length > before) at.push(seconds);
  }
  assert.deepEqual(at, [1, 3, 7, 15, 23]);
  assert.equal(new Set(transport.texts).size, 1);
});

test("a later change of the content does not change the send", async () => {
  const { outbox: these, clock, transport } = connected();
  const content = { text: "before" };
  void these.send(BEN, content, "r1");
  content.text = "after";
  await clock.pass(1_000);
  assert.equal(transport.texts.length, 2);
  assert.equal(transport.texts[0], transport.texts[1]);
});

test("only a connection that was silent since the send is probed", async () => {
  const { outbox: these, clock, transport } = connected();
  void these.send(BEN, 1, "r1");
  await clock.pass(500);
  transport.heardAt = clock.now();
  await clock.pass(500);
  assert.equal(transport.probes, 0);
  await clock.pass(2_000);
  assert.equal(transport.probes, 1);
});

test("a new connection repeats sends under way at once with the same requestId", async () => {
  const { outbox: these, clock, transport } = connected();
  const first = these.send(BEN, 1, "r1");
  void these.send(BEN, 2, "r2");
  these.disconnected();
  await clock.pass(20_000);
  assert.deepEqual(transport.requests, ["r1"]);
  const next = new FakeTransport(clock);
  these.connected(next);
  assert.deepEqual(next.texts, transport.texts);
  acknowledge(these, "r1");
  await first;
  assert.deepEqual(next.requests, ["r1", "r2"]);
});

for (const code of ["bad_request", "request_id_reused", "muted", "novel"]) {
  test(`a refusal rejects the send, and the next one is sent (${code})`, async () => {
    const { outbox: these, clock, transport } = connected();
    const sent = these.send(BEN, 1, "r1");
    const second = these.send(BEN, 2, "r2");
    assert.equal(refuse(these, "r1", code), true);
    await assert.rejects(sent, { name: "ChatError", code, message: "no" });
    assert.deepEqual(transport.requests, ["r1", "r2"]);
    acknowledge(these, "r2");
    await second;
    const next = new FakeTransport(clock);
    these.disconnected();
    these.connected(next);
    await clock.pass(TIMING.idempotentMs);
    assert.deepEqual([transport.requests, next.requests], [["r1", "r2"], []], "it is not sent again");
    assert.equal(clock.pending, 0);
  });
}

test("after unavailable a send is repeated with growing waits", async () => {
  const { outbox: these, clock, transport } = connected();
  const sent = these.send(BEN, 1, "r1");
  assert.equal(refuse(these, "r1", "unavailable"), true);
  await clock.pass(199);
  assert.equal(transport.texts.length, 1);
  await clock.pass(1);
  assert.deepEqual(transport.requests, ["r1", "r1"]);
  refuse(these, "r1", "unavailable");
  await clock.pass(399);
  assert.equal(transport.texts.length, 2);
  await clock.pass(1);
  assert.equal(transport.texts.length, 3);
  assert.equal(transport.probes, 0, "somebody has answered");
  acknowledge(these, "r1");
  await sent;
});

// The limit of sends. The tests have no chance: after `retryAfterMs` the client waits 100 ms more, then 200 ms, …

const CARA = { receiverId: "cara" };

test("after rate_limited a send is repeated when the server says, with the same bytes", async () => {
  const { outbox: these, clock, transport, limits } = connected();
  const start = clock.now();
  const sent = these.send(BEN, 1, "r1");
  assert.equal(these.limitedUntil, undefined);
  assert.equal(limit(these, "r1", 5_000), true);
  assert.deepEqual(limits.map(({ code, retryAfterMs }) => [code, retryAfterMs]), [["rate_limited", 5_000]]);
  assert.equal(these.limitedUntil, start + 5_100);
  await clock.pass(5_099);
  assert.equal(transport.texts.length, 1);
  await clock.pass(1);
  assert.equal(these.limitedUntil, undefined);
  assert.deepEqual(transport.requests, ["r1", "r1"]);
  assert.equal(transport.texts[0], transport.texts[1]);
  assert.equal(transport.probes, 0, "the server has answered");
  acknowledge(these, "r1");
  assert.deepEqual(await sent, ACK);
  assert.equal(clock.pending, 0);
});

test("during a limit nothing is sent, and afterwards the order is kept", async () => {
  const { outbox: these, clock, transport } = connected();
  const sends = [these.send(BEN, 1, "r1"), these.send(BEN, 2, "r2")];
  limit(these, "r1", 5_000);
  sends.push(these.send(BEN, 3, "r3"), these.send(CARA, 4, "r4"));
  await clock.pass(5_099);
  assert.deepEqual(transport.requests, ["r1"]);
  await clock.pass(1);
  for (const requestId of ["r1", "r2", "r3", "r4"]) acknowledge(these, requestId);
  await Promise.all(sends);
  const toBen = transport.requests.filter((requestId) => requestId !== "r4");
  assert.deepEqual(toBen, ["r1", "r1", "r2", "r3"]);
  assert(transport.requests.includes("r4"));
});

test("several refusals are one limit, which is told once", async () => {
  const { outbox: these, clock, transport, limits } = connected();
  for (const n of [1, 2, 3]) void these.send({ receiverId: `user${n}` }, n, `r${n}`);
  limit(these, "r1", 5_000);
  await clock.pass(10);
  limit(these, "r2", 4_990);
  limit(these, "r3", 6_000);
  assert.equal(limits.length, 1);
  await clock.pass(6_199);
  assert.deepEqual(transport.requests, ["r1", "r2", "r3"], "the longest wait counts");
  await clock.pass(1);
  assert.deepEqual(transport.requests, ["r1", "r2", "r3", "r1"]);
  limit(these, "r1", 1_000);
  assert.equal(limits.length, 2);
});

test("after a limit sends begin one by one, and become more with each acknowledgement", async () => {
  const { outbox: these, clock, transport } = connected();
  const ids = Array.from({ length: 100 }, (_, n) => `r${n}`);
  for (const id of ids) void these.send({ receiverId: id }, 1, id);
  for (const id of ids) limit(these, id, 1_000);
  await clock.pass(1_100);
  const rounds: number[] = [];
  for (let done = ids.length; done < transport.requests.length; ) {
    const round = transport.requests.slice(done);
    rounds.push(round.length);
    done = transport.requests.length;
    for (const id of round) acknowledge(these, id);
  }
  assert.deepEqual(rounds, [1, 2, 4, 8, 16, 32, 37]);
  assert.equal(these.size, 0);
  for (let n = 0; n < 1_000; n++) void these.send({ receiverId: `user${n}` }, 1, `s${n}`);
  assert.equal(these.size, 1_000);
  assert.equal(transport.requests.length, 1_200, "the limit is forgotten");
});

test("after a limit a refused send makes room for the next one", async () => {
  const { outbox: these, clock, transport } = connected();
  const refused = assert.rejects(these.send(BEN, 1, "r1"), { code: "muted" });
  const sent = these.send(CARA, 2, "r2");
  limit(these, "r1", 1_000);
  limit(these, "r2", 1_000);
  await clock.pass(1_100);
  refuse(these, "r1", "muted");
  await refused;
  assert.deepEqual(transport.requests, ["r1", "r2", "r1", "r2"]);
  acknowledge(these, "r2");
  await sent;
});

test("each limit without an acknowledgement in between waits longer beyond what the server says", async () => {
  const { outbox: these, clock, transport } = connected();
  void these.send(BEN, 1, "r1");
  const waits: number[] = [];
  for (let n = 1; n <= 4; n++) {
    limit(these, "r1", 1_000);
    let waited = 0;
    for (; transport.texts.length === n; waited += 100) await clock.pass(100);
    waits.push(waited);
  }
  assert.deepEqual(waits, [1_100, 1_200, 1_400, 1_400]);
  acknowledge(these, "r1");
  void these.send(BEN, 2, "r2");
  limit(these, "r2", 1_000);
  await clock.pass(1_100);
  assert.equal(transport.requests.at(-1), "r2");
  assert.equal(transport.requests.length, 7);
});

test("a send under way is acknowledged during a limit, and one without an answer is repeated after it", async () => {
  const { outbox: these, clock, transport } = connected();
  const first = these.send(BEN, 1, "r1");
  const second = these.send(CARA, 2, "r2");
  void these.send({ groupId: "g" }, 3, "r3");
  limit(these, "r3", 5_000);
  acknowledge(these, "r1");
  await first;
  await clock.pass(5_099);
  assert.deepEqual(transport.requests, ["r1", "r2", "r3"]);
  await clock.pass(1);
  assert.deepEqual(transport.requests, ["r1", "r2", "r3", "r2"], "an acknowledgement in between makes no room");
  acknowledge(these, "r2");
  await second;
  assert.deepEqual(transport.requests, ["r1", "r2", "r3", "r2", "r3"]);
});

test("a limit outlasts its connection", async () => {
  const { outbox: these, clock, transport } = connected();
  for (const id of ["r1", "r2", "r3"]) void these.send({ receiverId: id }, 1, id);
  limit(these, "r1", 5_000);
  these.disconnected();
  const next = new FakeTransport(clock);
  these.connected(next);
  await clock.pass(5_099);
  assert.deepEqual([transport.requests.length, next.requests.length], [3, 0]);
  these.disconnected();
  await clock.pass(1);
  these.connected(next);
  assert.deepEqual(next.requests, ["r1"], "it still begins with one");
  acknowledge(these, "r1");
  assert.deepEqual(next.requests, ["r1", "r2", "r3"]);
});

for (const [name, retryAfterMs, waitMs] of [
  ["is left out", undefined, 100],
  ["is no number", "soon", 100],
  ["is negative", -5, 100],
  ["is more than an hour", 1e300, 3_600_100],
] as const) {
  test(`a limit whose retryAfterMs ${name} has an end`, async () => {
    const { outbox: these, clock } = connected();
    void these.send(BEN, 1, "r1").catch(() => {});
    limit(these, "r1", retryAfterMs);
    assert.equal(these.limitedUntil, clock.now() + waitMs);
  });
}

test("a limit of an unknown send or of another call holds too", async () => {
  const { outbox: these, clock, transport, limits } = connected();
  assert.equal(limit(these, "r0", 1_000), true);
  these.limit(new ChatError("rate_limited", "too much", { retryAfterMs: 2_000 }));
  assert.equal(limits.length, 1);
  void these.send(BEN, 1, "r1");
  await clock.pass(2_199);
  assert.deepEqual(transport.requests, []);
  await clock.pass(1);
  assert.deepEqual(transport.requests, ["r1"]);
});

test("a send that only the limit has refused is given up with its error: nothing was stored", async () => {
  const { outbox: these, clock, transport } = connected();
  const sent = these.send(BEN, 1, "r1");
  const refused = assert.rejects(sent, { name: "ChatError", code: "rate_limited", retryAfterMs: TIMING.idempotentMs });
  limit(these, "r1", TIMING.idempotentMs);
  await clock.pass(TIMING.idempotentMs);
  await refused;
  assert.equal(transport.texts.length, 1);
});

test("a send that a limit refused after a lost answer is given up as unacknowledged", async () => {
  const { outbox: these, clock } = connected();
  const refused = assert.rejects(these.send(BEN, 1, "r1"), { code: "unacknowledged" });
  await clock.pass(1_000);
  limit(these, "r1", TIMING.idempotentMs);
  await clock.pass(TIMING.idempotentMs);
  await refused;
});

test("a send without an answer after a limit is given up as unacknowledged", async () => {
  const { outbox: these, clock, transport } = connected();
  const refused = assert.rejects(these.send(BEN, 1, "r1"), { code: "unacknowledged" });
  limit(these, "r1", 1_000);
  await clock.pass(TIMING.idempotentMs);
  await refused;
  assert(transport.texts.length > 1);
});

test("after a limit a send waits for its acknowledgement as if it was new", async () => {
  const { outbox: these, clock, transport } = connected();
  void these.send(BEN, 1, "r1");
  await clock.pass(7_000);
  assert.equal(transport.texts.length, 4);
  limit(these, "r1", 1_000);
  await clock.pass(1_100);
  assert.equal(transport.texts.length, 5);
  await clock.pass(1_000);
  assert.equal(transport.texts.length, 6);
});

test("a send that waited for a limit without being sent has all its time", async () => {
  const { outbox: these, clock, transport } = connected();
  limit(these, "r0", 50_000);
  const sent = these.send(BEN, 1, "r1");
  await clock.pass(50_100);
  await clock.pass(TIMING.idempotentMs - 1);
  assert(transport.requests.length > 1);
  acknowledge(these, "r1");
  await sent;
});

test("a refusal says until when", async () => {
  const { outbox: these } = connected();
  const sent = these.send({ groupId: "g" }, 1, "r1");
  these.refused(new ChatError("muted", "no", { until: 7 }), "r1");
  await assert.rejects(sent, { name: "ChatError", code: "muted", until: 7 });
});

test("after token_expired a send waits for the next connection", async () => {
  const { outbox: these, transport, clock } = connected();
  const sent = these.send(BEN, 1, "r1");
  assert.equal(refuse(these, "r1", "token_expired"), true);
  these.disconnected();
  const next = new FakeTransport(clock);
  these.connected(next);
  assert.deepEqual(next.texts, transport.texts);
  acknowledge(these, "r1");
  await sent;
});

test("an error without a known requestId belongs to no send", () => {
  const { outbox: these } = connected();
  assert.equal(refuse(these, undefined, "bad_request"), false);
  assert.equal(refuse(these, "r0", "bad_request"), false);
});

test("a send is not repeated after the server may have forgotten it", async () => {
  const { outbox: these, clock, transport } = connected();
  const sent = these.send(BEN, 1, "r1");
  const refused = assert.rejects(sent, { code: "unacknowledged" });
  void these.send(BEN, 2, "r2");
  these.disconnected();
  await clock.pass(TIMING.idempotentMs - 1);
  assert.equal(these.size, 2);
  await clock.pass(1);
  await refused;
  these.connected(transport);
  assert.deepEqual(transport.requests, ["r1", "r2"]);
});

test("a requestId of a send under way is refused", async () => {
  const { outbox: these } = connected();
  void these.send(BEN, 1, "r1");
  await assert.rejects(these.send({ groupId: "g" }, 1, "r1"), { code: "bad_request" });
  assert.equal(these.size, 1);
});

const circle: Record<string, unknown> = {};
circle["self"] = circle;

const refused: [string, unknown, string][] = [
  ["null", null, "r1"],
  ["undefined", undefined, "r1"],
  ["a circle", circle, "r1"],
  ["a bigint", 1n, "r1"],
  ["too long", "x".repeat(32 * 1024), "r1"],
  ["too long in bytes", "ü".repeat(16 * 1024), "r1"],
  ["under an empty requestId", 1, ""],
  ["under a requestId that is too long", 1, "x".repeat(65)],
  ["under a requestId that is too long in bytes", 1, "ü".repeat(33)],
];

for (const [name, content, requestId] of refused) {
  test(`a content that is ${name} is refused before sending`, async () => {
    const { outbox: these, clock, transport } = connected();
    await assert.rejects(these.send(BEN, content as Content, requestId), { name: "ChatError", code: "bad_request" });
    assert.deepEqual([transport.texts.length, these.size, clock.pending], [0, 0, 0]);
  });
}

test("a frame of the maximum length is sent", () => {
  const { outbox: these, transport } = connected();
  void these.send(BEN, "", "x".repeat(64));
  acknowledge(these, "x".repeat(64));
  const rest = 32 * 1024 - transport.texts[0]!.length;
  void these.send(BEN, "x".repeat(rest), "x".repeat(64));
  assert.equal(transport.texts[1]?.length, 32 * 1024);
});

test("at the end every send rejects and no timer is left", async () => {
  const { outbox: these, clock, transport } = connected();
  const sends = [these.send(BEN, 1, "r1"), these.send(BEN, 2, "r2"), these.send({ groupId: "g" }, 3, "r3")];
  const rejections = sends.map((sent) => assert.rejects(sent, { code: "closed" }));
  limit(these, "r3", 5_000);
  these.close(new ChatError("closed", "over"));
  await Promise.all(rejections);
  await settle();
  assert.deepEqual(transport.requests, ["r1", "r3"]);
  assert.deepEqual([clock.pending, these.limitedUntil], [0, undefined]);
});

test("after the end sends wait for another connection", async () => {
  const { outbox: these, transport, clock } = connected();
  const refused = assert.rejects(these.send(BEN, 1, "r1"), { code: "banned" });
  limit(these, "r1", 5_000);
  these.close(new ChatError("banned", "no"));
  await refused;
  for (const id of ["r2", "r3"]) void these.send({ receiverId: id }, 1, id);
  assert.deepEqual(transport.requests, ["r1"]);
  const next = new FakeTransport(clock);
  these.connected(next);
  assert.deepEqual(next.requests, ["r2", "r3"]);
});
