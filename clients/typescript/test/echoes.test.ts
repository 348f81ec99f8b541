import assert from "node:assert/strict";
import { test } from "node:test";

import { createEchoes } from "../src/echoes.js";
import type { Content, GroupMessage, Message } from "../src/protocol.js";
import { message } from "./fakes.js";

const BEN = { receiverId: "ben" };

test("without a send nothing is held", () => {
  assert.equal(createEchoes().holds(message(1)), false);
});

test("a message that equals a send is held until its end", () => {
  const echoes = createEchoes();
  const end = echoes.expect(BEN, "m1");
  assert.equal(echoes.holds(message(1)), true);
  assert.deepEqual(end(), [message(1)]);
  assert.equal(echoes.holds(message(1)), false);
});

const { receiverId: _, ...rest } = message(1);
const group: GroupMessage = { ...rest, type: "multicast", groupId: "ben" };
const contents: [string, Content][] = [["a number", 1.5], ["an object", { b: [null, "ü"], a: {}, 7: true }]];

test("a message with another addressee or content is not held", () => {
  const echoes = createEchoes();
  echoes.expect(BEN, "m1");
  for (const other of [message(2), { ...message(1), receiverId: "cara" }, group]) {
    assert.equal(echoes.holds(other), false);
  }
  echoes.expect({ groupId: "ben" }, "m1");
  assert.equal(echoes.holds(group), true);
});

for (const [name, content] of contents) {
  test(`a content that is ${name} equals its echo`, () => {
    const echoes = createEchoes();
    echoes.expect(BEN, content);
    const echo: Message = JSON.parse(JSON.stringify({ ...message(1), content }));
    assert.equal(echoes.holds(echo), true);
  });
}

test("of equal sends the last one ends the holding", () => {
  const echoes = createEchoes();
  const ends = [echoes.expect(BEN, "m1"), echoes.expect(BEN, "m1")];
  echoes.holds(message(1));
  assert.deepEqual(ends[0]!(), []);
  assert.equal(echoes.holds({ ...message(2), content: "m1" }), true);
  assert.equal(ends[1]!().length, 2);
});

test("a release returns all held messages once", () => {
  const echoes = createEchoes();
  const ends = [echoes.expect(BEN, "m1"), echoes.expect(BEN, "m2")];
  for (const n of [1, 2]) echoes.holds(message(n));
  assert.deepEqual(echoes.release(), [message(1), message(2)]);
  assert.deepEqual(ends.map((end) => end()), [[], []]);
  assert.equal(echoes.holds(message(1)), false);
});

test("of endless equal messages the first 100 of each sender are held", () => {
  const echoes = createEchoes();
  const end = echoes.expect(BEN, "m1");
  const held = Array.from({ length: 150 }, (_, n) => echoes.holds({ ...message(n), content: "m1" }));
  assert.equal(held.indexOf(false), 100);
  const own = { ...message(200), senderId: "me", content: "m1" };
  assert.equal(echoes.holds(own), true, "others do not take its place");
  assert.equal(end().length, 101);
});
