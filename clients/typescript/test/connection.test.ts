import assert from "node:assert/strict";
import { test } from "node:test";

import { createConnection } from "../src/connection.js";
import type { ServerFrame, Version } from "../src/protocol.js";
import { DEFAULT_TIMING, type Timing } from "../src/timing.js";
import { FakeSockets, message } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

const TIMING = { ...DEFAULT_TIMING, pingEveryMs: 60, silenceMs: 300, answerMs: 10, handshakeMs: 15 };
const PROBED = { type: "ERROR", code: "bad_request", message: "receiverId is missing", requestId: "client-probe" };

/** A connection under test, and its events. */
function dialled(version: Version = 2, timing: Partial<Timing> = {}) {
  const clock = new FakeClock();
  const sockets = new FakeSockets();
  const frames: ServerFrame[] = [];
  const said: string[] = [];
  const connection = createConnection({
    version,
    timing: { ...TIMING, ...timing },
    clock,
    webSocket: sockets.constructorFor,
    opened: () => said.push("opened"),
    received: (frame) => frames.push(frame),
    ended: (why, last) => said.push(last === undefined ? why : `${last.code} ${last.until}: ${why}`),
  }, "wss://chat.example.com/ws", "t");
  return { connection, clock, socket: sockets.last, frames, said };
}

function opened(timing: Partial<Timing> = {}) {
  const all = dialled(2, timing);
  all.socket.open();
  return all;
}

for (const [version, subprotocol] of [[1, "chat"], [2, "chat.2"]] as const) {
  test(`version ${version} and the token are sent as subprotocols, not in the address`, () => {
    const { socket, said } = dialled(version);
    socket.open();
    assert.equal(socket.url, "wss://chat.example.com/ws");
    assert.deepEqual(socket.protocols, [subprotocol, "t"]);
    assert.deepEqual(said, ["opened"]);
  });
}

test("a connection is open from its handshake until it is closed", () => {
  const { connection, socket } = dialled();
  assert.equal(connection.isOpen(), false);
  socket.open();
  assert.equal(connection.isOpen(), true);
  socket.end();
  assert.equal(connection.isOpen(), false);
});

test("a handshake that takes too long ends, and a late opening is ignored", async () => {
  const { clock, socket, said } = dialled();
  await clock.pass(15);
  socket.open();
  assert.deepEqual(said, ["the handshake took too long"]);
  assert.notEqual(socket.closedWith, undefined);
  assert.equal(clock.pending, 0);
});

test("a refused handshake ends the connection once", () => {
  const { clock, socket, said } = dialled();
  socket.onerror?.();
  socket.end(1006);
  assert.deepEqual(said, ["the connection failed"]);
  assert.equal(clock.pending, 0);
});

test("only valid frames are passed on", () => {
  const { socket, frames } = opened();
  socket.say(message(1));
  socket.say({ message: "Internal server error" });
  socket.onmessage?.({ data: new ArrayBuffer(1) });
  assert.deepEqual(frames, [message(1)]);
});

test("an open connection is pinged", async () => {
  const { clock, socket } = opened();
  await clock.pass(59);
  assert.equal(socket.pings, 0);
  await clock.pass(121);
  assert.equal(socket.pings, 3);
});

test("a connection on which frames are sent needs no ping", async () => {
  const { connection, clock, socket } = opened({ pingEveryMs: 510_000, silenceMs: 3_600_000 });
  for (let n = 0; n < 3; n++) {
    await clock.pass(400_000);
    connection.send('{"a":1}');
  }
  assert.equal(socket.pings, 0);
  // A timer of a hidden page may be late by a minute, and the gateway waits for ten.
  await clock.pass(540_000);
  assert.equal(socket.pings, 1);
});

test("an idle connection costs a ping, a probe and its answer in 17 minutes, as docs/clients.md says", async () => {
  const { clock, socket, said } = opened(DEFAULT_TIMING);
  const sent: string[] = [];
  for (let second = 1; second <= 2_040; second++) {
    await clock.pass(1_000);
    for (const { type, requestId } of socket.sent.splice(0)) {
      sent.push(`${second} ${requestId ?? type}`);
      if (requestId !== undefined) socket.say(PROBED);
    }
  }
  assert.deepEqual(sent, ["510 ping", "1020 client-probe", "1530 ping", "2040 client-probe"]);
  assert.deepEqual(said, ["opened"]);
});

test("a machine that has slept looks whether the connection is alive", async () => {
  const { clock, socket } = opened({ pingEveryMs: 510_000, silenceMs: 3_600_000 });
  await clock.sleep(180_000);
  await clock.pass(30_000);
  assert.deepEqual([socket.probes, socket.pings], [1, 0]);
});

test("a silent connection is probed, and ends without an answer", async () => {
  const { clock, socket, said } = opened();
  await clock.pass(299);
  assert.equal(socket.probes, 0);
  await clock.pass(1);
  assert.equal(socket.probes, 1);
  await clock.pass(9);
  assert.deepEqual(said, ["opened"]);
  await clock.pass(1);
  assert.deepEqual(said, ["opened", "no answer"]);
  assert.equal(clock.pending, 0);
});

test("the answer to a probe keeps the connection and is not passed on", async () => {
  const { clock, socket, frames, said } = opened();
  await clock.pass(300);
  socket.say(PROBED);
  await clock.pass(200);
  assert.deepEqual(said, ["opened"]);
  assert.deepEqual(frames, []);
  assert.equal(socket.probes, 1);
});

test("any frame answers a probe", async () => {
  const { connection, clock, socket, said } = opened();
  connection.probe();
  socket.say(message(1));
  await clock.pass(50);
  assert.deepEqual(said, ["opened"]);
});

test("there is one probe at a time, and none before the opening", () => {
  const { connection, socket } = dialled();
  connection.probe();
  socket.open();
  connection.probe();
  connection.probe();
  assert.equal(socket.probes, 1);
});

test("nothing is sent before the socket is open", () => {
  const { connection, socket } = dialled();
  connection.send('{"a":1}');
  socket.open();
  connection.send('{"a":2}');
  socket.readyState = 2;
  connection.send('{"a":3}');
  assert.deepEqual(socket.sent, [{ a: 2 }]);
});

for (const requestId of ["r1", undefined, "client-probe"]) {
  test(`an expired token ends the connection (${requestId})`, () => {
    const { clock, socket, frames, said } = opened();
    socket.say({ type: "ERROR", code: "token_expired", message: "expired", requestId });
    assert.deepEqual(said, ["opened", "the token expired"]);
    assert.equal(frames.length, requestId === "client-probe" ? 0 : 1);
    assert.notEqual(socket.closedWith, undefined);
    assert.equal(clock.pending, 0);
  });
}

for (const [code, more, end] of [
  ["too_many_connections", {}, "too_many_connections undefined: no"],
  ["banned", { until: 7 }, "banned 7: no"],
  ["banned", { until: 7, requestId: "r1" }, "banned 7: no"],
  ["banned", { until: 7, requestId: "client-probe" }, "banned 7: no"],
] as const) {
  test(`a connection ends once with the error after which none follows (${code} ${JSON.stringify(more)})`, () => {
    const { clock, socket, frames, said } = opened();
    socket.say({ type: "ERROR", code, message: "no", ...more });
    socket.say(message(1));
    socket.end(1000);
    assert.deepEqual(frames, []);
    assert.deepEqual(said, ["opened", end]);
    assert.notEqual(socket.closedWith, undefined);
    assert.equal(clock.pending, 0);
  });
}

test("an end does not wait for the other side", () => {
  const { connection, clock, socket, said } = opened();
  connection.end("enough");
  connection.end("again");
  assert.deepEqual(said, ["opened", "enough"]);
  assert.notEqual(socket.closedWith, undefined);
  assert.equal(clock.pending, 0);
});

test("frames after the end are ignored", () => {
  const { socket, frames, said } = opened();
  socket.end(1001);
  socket.say(message(1));
  socket.end(1006);
  assert.deepEqual(frames, []);
  assert.deepEqual(said, ["opened", "closed with code 1001"]);
});

test("a close waits for the other side", async () => {
  const { connection, clock, socket, frames, said } = opened();
  let over = false;
  void connection.close().then(() => (over = true));
  socket.say(message(1));
  await settle();
  assert.deepEqual([over, socket.closedWith], [false, 1000]);
  socket.end(1000);
  await settle();
  assert.equal(over, true);
  assert.deepEqual(said, ["opened"]);
  assert.deepEqual(frames, []);
  assert.equal(clock.pending, 0);
});

test("a close does not wait long for the other side", async () => {
  const { connection, clock } = opened();
  let over = false;
  void connection.close().then(() => (over = true));
  await clock.pass(1_000);
  assert.equal(over, true);
  assert.equal(clock.pending, 0);
});

test("a close during the handshake ends the handshake", async () => {
  const { connection, clock, socket, said } = dialled();
  const closed = connection.close();
  socket.onerror?.();
  socket.end(1006);
  await closed;
  assert.deepEqual(said, []);
  assert.equal(clock.pending, 0);
});

test("closing an ended connection resolves at once", async () => {
  const { connection, socket } = opened();
  socket.end();
  await connection.close();
});
