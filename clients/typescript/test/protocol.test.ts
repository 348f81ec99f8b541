import assert from "node:assert/strict";
import { test } from "node:test";

import { readFrame } from "../src/protocol.js";
import { message, recall } from "./fakes.js";

const group = { type: "multicast", id: "1", senderId: "ann", groupId: "g", content: { a: [1] }, timestamp: 5 };

const invitation = {
  type: "INVITATION", id: "i", groupName: "Team", groupId: "g", userId: "ben", invitedBy: "ann",
};

const frames: [string, unknown][] = [
  ["a private message", message(1)],
  ["a group message", group],
  ["an acknowledgement", { type: "ACK", requestId: "r", id: "1", timestamp: 5 }],
  ["an error", { type: "ERROR", code: "bad_request", message: "no" }],
  ["an error of a frame", { type: "ERROR", code: "bad_request", message: "no", requestId: "r" }],
  ["an error with the end of its reason", { type: "ERROR", code: "muted", message: "no", requestId: "r", until: 5 }],
  ["a recall of a private message", recall(1, 2)],
  ["a recall in a group", { type: "RECALLED", id: "1", senderId: "ann", groupId: "g", timestamp: 5 }],
  ["a read mark of a private conversation", { type: "READ", readerId: "ann", userId: "ann", until: "1" }],
  ["a read mark of a group", { type: "READ", readerId: "ben", groupId: "g", until: "1" }],
  ["a typing signal", { type: "TYPING", senderId: "ann" }],
  ["an invitation", invitation],
  ["a change of a group", { type: "GROUP", groupId: "g", event: "dissolved" }],
  ["a change with its user", { type: "GROUP", groupId: "g", event: "joined", userId: "ben" }],
  ["a notification with fields of its own", { type: "NOTIFICATION", notificationType: "n", content: null, more: 1 }],
];

for (const [name, frame] of frames) {
  test(`${name} is parsed unchanged`, () => assert.deepEqual(readFrame(JSON.stringify(frame)), frame));
}

const others: [string, unknown][] = [
  ["binary data", new ArrayBuffer(2)],
  ["invalid JSON", "{"],
  ["null", "null"],
  ["a number", "1"],
  ["a list", "[]"],
  ["an object of an unknown type", JSON.stringify({ type: "typing" })],
  ["API Gateway's own error", JSON.stringify({ message: "Internal server error", requestId: "x" })],
  ["a message without an id", JSON.stringify({ ...group, id: undefined })],
  ["a message whose id is a number", JSON.stringify({ ...group, id: 1 })],
  ["a message whose time is a text", JSON.stringify({ ...group, timestamp: "5" })],
  ["a private message without a receiver", JSON.stringify({ ...message(1), receiverId: undefined })],
  ["a message without a sender", JSON.stringify({ ...message(1), senderId: undefined })],
  ["a group message without a group", JSON.stringify({ ...group, groupId: undefined })],
  ["an acknowledgement without a requestId", JSON.stringify({ type: "ACK", id: "1", timestamp: 5 })],
  ["a notification without a type", JSON.stringify({ type: "NOTIFICATION", content: 1 })],
  ["a recall without an id", JSON.stringify({ ...recall(1, 2), id: undefined })],
  ["a recall without a time", JSON.stringify({ ...recall(1, 2), timestamp: undefined })],
  ["a recall without an addressee", JSON.stringify({ ...recall(1, 2), receiverId: undefined })],
  ["a read mark without a conversation", JSON.stringify({ type: "READ", readerId: "ann", until: "1" })],
  ["a read mark without a message", JSON.stringify({ type: "READ", readerId: "ann", userId: "ann" })],
  ["a typing signal without a sender", JSON.stringify({ type: "TYPING" })],
  ["an invitation without a group", JSON.stringify({ ...invitation, groupId: undefined })],
  ["a change of a group without an event", JSON.stringify({ type: "GROUP", groupId: "g" })],
  ["an object whose type is that of every object", JSON.stringify({ type: "constructor" })],
  ["an error without a code", JSON.stringify({ type: "ERROR", message: "no" })],
];

for (const [name, data] of others) {
  test(`${name} is not a frame`, () => assert.equal(readFrame(data), undefined));
}
