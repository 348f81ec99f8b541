import assert from "node:assert/strict";
import { test } from "node:test";

import { createApi, type ChatApi } from "../src/api.js";
import type { ChatError } from "../src/errors.js";
import { createTokens } from "../src/tokens.js";
import { FakeFetch, idOf, Later, message, page, recall, type FakeAnswer, type FakeRequest } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** An API with these answers and with the tokens `t1`, `t2`, … */
function api(answer: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer>) {
  const clock = new FakeClock();
  const server = new FakeFetch(answer);
  const times: number[] = [];
  const refused: ChatError[] = [];
  let asked = 0;
  const ask = () => `t${++asked}`;
  const these = createApi({
    url: "https://chat.example.com/stage",
    tokens: createTokens({ clock, timing: { requestMs: 1_000 }, signal: () => new AbortController().signal }, ask),
    clock,
    timing: { requestMs: 1_000 },
    fetch: server.fetch,
    serverTime: (ms) => times.push(ms),
    refused: (error) => refused.push(error),
  });
  return { api: these, clock, server, times, refused };
}

const GROUP = { id: "g", name: "Team", managerId: "ann", usersId: ["ann"] };
const INVITATION = { id: "i", groupId: "g", groupName: "Team", userId: "ben", invitedBy: "ann" };

const HISTORY = { messages: [message(1)], hasMore: false, next: undefined };
const CONVERSATION = { type: "unicast", userId: "ann", unread: 1, last: message(1) };
const RECEIPT = { id: "1", timestamp: 5 };

const LAST = { messages: [], recalls: [], next: undefined, token: undefined };

const calls: [string, (api: ChatApi) => Promise<unknown>, FakeAnswer, unknown][] = [
  ["POST /stage/api/group name=A & B", (api) => api.createGroup("A & B"), { json: "g" }, "g"],
  ["PUT /stage/api/group/g name=B", (api) => api.renameGroup("g", "B"), {}, undefined],
  ["GET /stage/api/group/g", (api) => api.group("g"), { json: GROUP }, GROUP],
  ["GET /stage/api/group", (api) => api.groups(), { json: [GROUP] }, [GROUP]],
  ["GET /stage/api/group detailed=false", (api) => api.groupIds(), { json: ["g"] }, ["g"]],
  ["DELETE /stage/api/group/g", (api) => api.leaveGroup("g"), {}, undefined],
  ["DELETE /stage/api/group/g userId=ben", (api) => api.removeMember("g", "ben"), {}, undefined],
  ["POST /stage/api/request", (api) => api.invite("g", "ben"), {}, undefined],
  ["GET /stage/api/request", (api) => api.invitations(), { json: [INVITATION] }, [INVITATION]],
  ["PUT /stage/api/request/i", (api) => api.acceptInvitation("i"), {}, undefined],
  ["DELETE /stage/api/request/i", (api) => api.declineInvitation("i"), {}, undefined],
  ["GET /stage/api/message drop=false", (api) => api.pull(), { json: [] }, LAST],
  ["GET /stage/api/message drop=false after=1", (api) => api.pull({ after: "1" }), { json: [] }, LAST],
  ["GET /stage/api/message drop=false since=1", (api) => api.pull({ since: "1" }), { json: [] }, LAST],
  [
    "GET /stage/api/message drop=false since=1 version=2", (api) => api.pull({ since: "1", recalls: true }),
    { json: [] }, LAST,
  ],
  ["PUT /stage/api/group/g managerId=ben", (api) => api.handOver("g", "ben"), {}, undefined],
  ["PUT /stage/api/group/g/mute userId=ben minutes=5", (api) => api.mute("g", "ben", 5), {}, undefined],
  ["DELETE /stage/api/group/g/mute userId=ben", (api) => api.unmute("g", "ben"), {}, undefined],
  ["GET /stage/api/history userId=ann", (api) => api.history({ userId: "ann" }), { json: [message(1)] }, HISTORY],
  [
    "GET /stage/api/history groupId=g before=2 limit=1",
    (api) => api.history({ groupId: "g" }, { before: "2", limit: 1 }),
    { json: [message(1)], headers: { "x-has-more": "true", "x-next": "1" } }, { ...HISTORY, hasMore: true, next: "1" },
  ],
  [
    "GET /stage/api/history userId=ann after=2", (api) => api.history({ userId: "ann" }, { after: "2" }),
    { json: [message(1)], headers: { "x-has-more": "false" } }, HISTORY,
  ],
  [
    "GET /stage/api/conversation", (api) => api.conversations(),
    { json: [CONVERSATION], headers: { "x-has-more": "true", "x-next": "u-ann" } },
    { conversations: [CONVERSATION], hasMore: true, next: "u-ann" },
  ],
  [
    "GET /stage/api/conversation after=u-ann", (api) => api.conversations({ after: "u-ann" }),
    { json: [] }, { conversations: [], hasMore: false, next: undefined },
  ],
  ["PUT /stage/api/read userId=ann until=1", (api) => api.markRead({ userId: "ann" }, "1"), {}, undefined],
  ["PUT /stage/api/read groupId=g until=1", (api) => api.markRead({ groupId: "g" }, "1"), {}, undefined],
  ["DELETE /stage/api/message/1 receiverId=ben", (api) => api.recall("1", { receiverId: "ben" }), {}, undefined],
  ["DELETE /stage/api/message/1 groupId=g", (api) => api.recall("1", { groupId: "g" }), {}, undefined],
  ["POST /stage/api/message", (api) => api.postMessage("{}"), { json: RECEIPT }, RECEIPT],
  ["DELETE /stage/api/message page=1", (api) => api.drop(["1"]), {}, undefined],
  ["DELETE /stage/api/message page=2 page=1", (api) => api.drop(["2", "1"]), {}, undefined],
];

for (const [line, call, answer, expected] of calls) {
  test(line, async () => {
    const { api: these, server, clock } = api(() => answer);
    assert.deepEqual(await call(these), expected);
    assert.deepEqual(server.lines, [line]);
    assert.equal(server.requests[0]?.token, "t1");
    assert.equal(clock.pending, 0);
  });
}

test("an invitation is sent as JSON", async () => {
  const { api: these, server } = api(() => ({}));
  await these.invite("g", "ben");
  assert.deepEqual(server.requests[0]?.body, { groupId: "g", userId: "ben" });
});

test("an id is one segment of the path, whatever its characters", async () => {
  const { api: these, server } = api(() => ({ json: GROUP }));
  await these.group("a@b:c/../d?e");
  assert.equal(server.requests[0]?.path, "/stage/api/group/a%40b%3Ac%2F..%2Fd%3Fe");
});

test("a page is sorted by id, not by sender", async () => {
  const fromCara = { ...message(2), senderId: "cara" };
  const { api: these } = api(() => page([message(3), fromCara, message(1)]));
  assert.deepEqual((await these.pull()).messages, [message(1), fromCara, message(3)]);
});

test("a body that is JSON already is sent unchanged", async () => {
  const { api: these, server } = api(() => ({ json: RECEIPT }));
  await these.postMessage('{"type":"unicast"}');
  assert.deepEqual(server.requests[0]?.body, { type: "unicast" });
});

test("recalls are sorted by their times, apart from messages", async () => {
  const recalls = [recall(1, 8), recall(5, 6)];
  const { api: these } = api(() => page([recalls[0]!, message(7), recalls[1]!, message(2)]));
  const { messages, recalls: found } = await these.pull({ since: idOf(0), recalls: true });
  assert.deepEqual([messages, found], [[message(2), message(7)], recalls.reverse()]);
});

test("a list that has more, but does not say where, is an error", async () => {
  const { api: these } = api(() => ({ json: [], headers: { "x-has-more": "true" } }));
  await assert.rejects(these.history({ userId: "ann" }), { name: "ChatError", code: "network" });
  await assert.rejects(these.conversations(), { name: "ChatError", code: "network" });
});

test("a page has its next page and its token from the answer, even if it is empty", async () => {
  const { api: these, server } = api(() => page([message(1)], { next: idOf(7), token: "t" }));
  assert.deepEqual(await these.pull(), { messages: [message(1)], recalls: [], next: idOf(7), token: "t" });
  server.answer = () => page([], { next: idOf(7), token: "u" });
  assert.deepEqual(await these.pull({ after: idOf(6) }), { messages: [], recalls: [], next: idOf(7), token: "u" });
});

test("a page of a resumption has a next page but no token", async () => {
  const { api: these } = api(() => page([message(7)], { next: idOf(7) }));
  const expected = { messages: [message(7)], recalls: [], next: idOf(7), token: undefined };
  assert.deepEqual(await these.pull({ since: idOf(6) }), expected);
});

test("if X-Has-More is false there is no next page", async () => {
  const { api: these } = api(() => page([message(1)], { more: false, next: idOf(7) }));
  assert.equal((await these.pull()).next, undefined);
});

for (const [name, answer] of [
  ["where this one began", page([], { next: idOf(5) })],
  ["before this one", page([message(6)], { next: idOf(4) })],
  ["at an unknown id", page([], { more: true })],
  ["before this one, since the server ignores the parameter", page([message(1)], { more: true })],
] as const) {
  test(`a pull is an error if its next page begins ${name}`, async () => {
    const { api: these } = api(() => answer);
    await assert.rejects(these.pull({ after: idOf(5) }), { name: "ChatError", code: "network" });
    await assert.rejects(these.pull({ since: idOf(5) }), { name: "ChatError", code: "network" });
  });
}

const refusals: [number, string][] = [
  [400, "bad_request"], [403, "forbidden"], [404, "not_found"], [405, "rejected"], [409, "rejected"],
  [429, "unavailable"], [500, "unavailable"], [503, "unavailable"],
];

for (const [status, code] of refusals) {
  test(`status ${status} is ${code} with the text of the problem document, and is not repeated`, async () => {
    const { api: these, server } = api(() => ({ status, json: { title: "No", detail: "name must not be blank" } }));
    const error = { name: "ChatError", code, status, message: "name must not be blank" };
    await assert.rejects(these.createGroup(" "), error);
    assert.equal(server.requests.length, 1);
  });
}

for (const [status, problem, expected] of [
  [403, { code: "muted", until: 7 }, { code: "muted", until: 7, retryAfterMs: undefined }],
  [403, { code: "banned", until: 7 }, { code: "banned", until: 7 }],
  [403, { code: "banned", until: "soon" }, { code: "banned", until: undefined }],
  [409, { code: "request_id_reused" }, { code: "request_id_reused", until: undefined }],
  [400, { code: "bad_request" }, { code: "bad_request" }],
  [429, { code: "rate_limited", retryAfterMs: 1_500 }, { code: "rate_limited", retryAfterMs: 1_500 }],
  [429, { code: "rate_limited" }, { code: "rate_limited", retryAfterMs: 2_000 }],
  [429, { code: "rate_limited", retryAfterMs: 1e300 }, { code: "rate_limited", retryAfterMs: 3_600_000 }],
  [403, { code: 403 }, { code: "forbidden" }],
] as const) {
  test(`an error has the code of its problem document (${JSON.stringify(problem)})`, async () => {
    const headers: Record<string, string> = status === 429 ? { "retry-after": "2" } : {};
    const { api: these, refused } = api(() => ({ status, json: { ...problem, detail: "no" }, headers }));
    await assert.rejects(these.postMessage("{}"), { name: "ChatError", status, message: "no", ...expected });
    assert.deepEqual(refused.map(({ code }) => code), [expected.code], "it is also told");
  });
}

const DATE = "Tue, 17 Jun 2025 10:00:00 GMT";

for (const [name, headers, expected] of [
  ["seconds", { "retry-after": "7" }, 7_000],
  ["a time by the clock of the server", { "retry-after": "Tue, 17 Jun 2025 10:00:09 GMT", date: DATE }, 9_000],
  ["a time in the past", { "retry-after": DATE, date: "Tue, 17 Jun 2025 10:00:09 GMT" }, 0],
  ["more than an hour", { "retry-after": "1e300" }, 3_600_000],
  ["an invalid text", { "retry-after": "soon", date: DATE }, undefined],
  ["no header", {}, undefined],
] as [string, Record<string, string>, number | undefined][]) {
  test(`an error has the wait of Retry-After (${name})`, async () => {
    const { api: these } = api(() => ({ status: 429, headers }));
    await assert.rejects(these.groups(), { code: "unavailable", retryAfterMs: expected });
  });
}

test("Retry-After is relative to the machine's clock if the answer has no date", async () => {
  const { api: these, clock } = api(() => {
    return { status: 503, headers: { "retry-after": new Date(clock.now() + 3_000).toUTCString() } };
  });
  await assert.rejects(these.groups(), { retryAfterMs: 3_000 });
});

for (const text of ["<html>", "", '"text"', "null"]) {
  test(`an error without a problem document is reported by its status (${text})`, async () => {
    const { api: these } = api(() => ({ status: 502, text }));
    await assert.rejects(these.groups(), { code: "unavailable", message: "status 502" });
  });
}

for (const text of ["<html>", '{"a":1}', "[1]", "[null]", '[{"id":"ann","messages":[{"id":"1"}]}]']) {
  test(`a pull that is answered with ${text} is an error`, async () => {
    const { api: these } = api(() => ({ text }));
    await assert.rejects(these.pull(), { name: "ChatError", code: "network" });
  });
}

test("a refused token is renewed once for all concurrent calls", async () => {
  const { api: these, server } = api(({ token }) => (token === "t1" ? { status: 401 } : { json: [] }));
  await Promise.all([these.groups(), these.invitations()]);
  assert.deepEqual(server.requests.map(({ token }) => token), ["t1", "t1", "t2", "t2"]);
});

test("a second refusal of the token rejects the call", async () => {
  const { api: these, server } = api(() => ({ status: 401, json: { detail: "expired" } }));
  await assert.rejects(these.groups(), { code: "unauthorized", status: 401 });
  assert.equal(server.requests.length, 2);
});

test("a call that is not answered in time is aborted", async () => {
  const { api: these, clock, server } = api(() => new Later<FakeAnswer>().promise);
  const refused = assert.rejects(these.groups(), { name: "ChatError", code: "network" });
  await clock.pass(999);
  assert.equal(server.requests[0]?.signal.aborted, false);
  await clock.pass(1);
  await refused;
  assert.equal(server.requests[0]?.signal.aborted, true);
  assert.equal(clock.pending, 0);
});

test("a failed call is an error of code network with its cause", async () => {
  const cause = new TypeError("fetch failed");
  const { api: these } = api(() => Promise.reject(cause));
  await assert.rejects(these.groups(), { name: "ChatError", code: "network", cause });
});

test("a pull can be aborted before and while it runs", async () => {
  const { api: these, clock, server } = api(() => new Later<FakeAnswer>().promise);
  await assert.rejects(these.pull({ signal: AbortSignal.abort() }), { name: "ChatError", code: "network" });
  assert.equal(server.requests.length, 0);
  const abort = new AbortController();
  const refused = assert.rejects(these.pull({ signal: abort.signal }), { code: "network" });
  await settle();
  abort.abort();
  await refused;
  assert.equal(server.requests[0]?.signal.aborted, true);
  assert.equal(clock.pending, 0);
});

test("each answer with a valid date reports the server's time", async () => {
  const dates = ["Tue, 17 Jun 2025 10:00:00 GMT", "soon", "Tue, 17 Jun 2025 10:00:01 GMT"];
  const { api: these, times } = api(() => ({ status: 403, headers: { date: dates.shift()! } }));
  for (let n = 0; n < 3; n++) await these.groups().catch(() => {});
  assert.deepEqual(times, [Date.UTC(2025, 5, 17, 10, 0, 0), Date.UTC(2025, 5, 17, 10, 0, 1)]);
});
