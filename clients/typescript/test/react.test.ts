/** The hooks on a server, and what they show. The example application runs them in a browser: see ../runtimes. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";

import { ChatClient, type Content } from "../src/index.js";
import { createModel } from "../src/model.js";
import { ChatProvider, useChat, useConversations, useMessages, useTyping } from "../src/react.js";
import { FakeFetch, FakeSockets, idOf, message, page, recall, type FakeAnswer, type FakeRequest } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** The model of Ben, whose server answers as the test says. */
class World {
  readonly clock = new FakeClock();
  readonly sockets = new FakeSockets();
  /** The history of each conversation, the oldest first. */
  history: object[] = [];
  conversations: object[] = [];
  pageSize = 50;
  readonly server = new FakeFetch((request) => this.#answer(request));
  readonly client = new ChatClient<Content>({
    url: "https://chat.example.com",
    token: () => "t",
    webSocket: this.sockets.constructorFor,
    fetch: this.server.fetch,
    clock: this.clock,
    random: () => 1,
  });
  readonly model = createModel(this.client, "ben");
  readonly chat = this.model.chatWith({ userId: "ann" });

  #answer({ path, query }: FakeRequest): FakeAnswer {
    if (path === "/api/conversation") return { json: this.conversations };
    if (path !== "/api/history") return page([]);
    const before = query.get("before") ?? "Z";
    const all = this.history.filter((one) => (one as { id: string }).id < before);
    const headers = { "x-has-more": String(all.length > this.pageSize), "x-next": "x" };
    return { json: all.slice(-this.pageSize), headers };
  }

  async connect(): Promise<void> {
    this.client.connect();
    await settle();
    this.sockets.last.open();
    await settle();
  }

  async push(frame: object): Promise<void> {
    this.sockets.last.say(frame);
    await this.clock.pass(200);
  }

  async close(): Promise<void> {
    const closed = this.client.close();
    await this.clock.pass(1_000);
    await closed;
  }

  get shown(): string[] {
    return this.chat.view.messages.map(({ content, recalledAt, state }) => [recalledAt ? "-" : content, state].join(""));
  }
}

async function world(change: Partial<World> = {}): Promise<World> {
  const made = Object.assign(new World(), change);
  made.model.start();
  made.model.watchList();
  made.model.watch(made.chat);
  await made.connect();
  return made;
}

const answered = (n: number, content: string) => ({ ...message(n, content), senderId: "ben", receiverId: "ann" });

test("a server renders the hooks, and does not connect", () => {
  const { client, sockets } = new World();
  const seen: unknown[] = [];
  const Page = () => {
    seen.push(useChat().state, useConversations().isLoading, useMessages({ groupId: "g" }).messages, useTyping("ann")[0]);
    return createElement("p", null, "hello");
  };
  const html = renderToString(createElement(ChatProvider, { client, userId: "ben" }, createElement(Page)));
  assert.equal(html, "<p>hello</p>");
  assert.deepEqual(seen, ["idle", true, [], false]);
  assert.equal(sockets.all.length, 0);
  assert.throws(() => renderToString(createElement(Page)), /no ChatProvider/);
});

test("a conversation shows its history, new messages, recalls, and sends with their results", async () => {
  const here = await world({ history: [message(1), message(2)] });
  const { sockets } = here;
  assert.deepEqual(here.shown, ["m1", "m2"]);
  await here.push(message(4));
  await here.push(message(3));
  await here.push(message(4));
  assert.deepEqual(here.shown, ["m1", "m2", "m3", "m4"]);
  await here.push(recall(2, 5));
  assert.deepEqual(here.shown, ["m1", "-", "m3", "m4"]);
  assert(here.chat.view.messages.every(({ content, recalledAt }) => recalledAt === undefined || content === undefined));
  // A history that was read before the recall.
  here.sockets.last.end();
  await here.clock.pass(1_000);
  sockets.last.open();
  await settle();
  assert.deepEqual(here.shown, ["m1", "-", "m3", "m4"]);
  here.chat.view.send("good");
  here.chat.view.send("bad");
  await settle();
  assert.deepEqual(here.shown.slice(4), ["goodsending", "badsending"]);
  const { requestId } = sockets.last.requests.at(-1)!;
  await here.push({ type: "ACK", requestId, id: idOf(6), timestamp: 0 });
  await here.push({ type: "ERROR", code: "bad_request", message: "no", requestId: sockets.last.requests.at(-1)!["requestId"] });
  assert.deepEqual(here.shown.slice(4), ["good", "badfailed"]);
  here.chat.view.retry(here.chat.view.messages.at(-1)!);
  await settle();
  assert.deepEqual(here.shown.slice(4), ["good", "badsending"]);
  await here.close();
});

test("older messages are loaded before those that are shown, and a gap is not hidden", async () => {
  const here = await world({ history: [1, 2, 3, 4, 5].map((n) => message(n)), pageSize: 2 });
  assert.deepEqual([here.shown, here.chat.view.hasOlder], [["m4", "m5"], true]);
  await here.chat.view.loadOlder();
  await here.chat.view.loadOlder();
  assert.deepEqual([here.shown, here.chat.view.hasOlder], [["m1", "m2", "m3", "m4", "m5"], false]);
  here.history.push(message(6));
  here.sockets.last.end();
  await here.clock.pass(1_000);
  here.sockets.last.open();
  await settle();
  assert.deepEqual([here.shown.length, here.chat.view.hasOlder], [6, false], "this device has all");
  here.history.push(...[7, 8, 9].map((n) => message(n)));
  here.sockets.last.end();
  await here.clock.pass(1_000);
  here.sockets.last.open();
  await settle();
  assert.deepEqual([here.shown, here.chat.view.hasOlder], [["m8", "m9"], true]);
  await here.close();
});

test("the list is sorted by the last message, and counts what is unread", async () => {
  const conversations = [
    { type: "unicast", userId: "ann", unread: 0, last: message(1) },
    { type: "multicast", groupId: "g", name: "Team", unread: 2, last: { ...message(2), groupId: "g" } },
  ];
  const here = await world({ conversations });
  const list = () => here.model.list().conversations.map((one) => `${"groupId" in one ? one.groupId : one.userId} ${one.unread}`);
  assert.deepEqual(list(), ["g 2", "ann 0"]);
  const before = here.server.requests.length;
  await here.push(message(3));
  assert.deepEqual(list(), ["ann 1", "g 2"]);
  await here.push({ type: "READ", readerId: "ben", userId: "ann", until: idOf(3) });
  assert.deepEqual(list(), ["ann 0", "g 2"]);
  await here.push(answered(4, "from another device"));
  assert.deepEqual(list(), ["ann 0", "g 2"]);
  await here.push({ type: "READ", readerId: "ann", userId: "ann", until: idOf(4) });
  assert.deepEqual(here.model.list().conversations[0], { ...conversations[0], last: answered(4, "from another device"), readUntil: idOf(3), peerReadUntil: idOf(4) });
  assert.equal(here.server.requests.length, before, "nothing was asked");
  await here.push({ ...message(5), senderId: "cara" });
  assert.equal(here.server.lines.at(-1), "GET /api/conversation", "cara is not in the list");
  await here.close();
});

test("messages are marked as read once, and only those of others", async () => {
  const here = await world({ history: [message(1), answered(2, "mine")] });
  for (let n = 0; n < 3; n++) here.chat.view.markRead();
  await settle();
  const marks = here.server.lines.filter((line) => line.startsWith("PUT"));
  assert.deepEqual(marks, [`PUT /api/read userId=ann until=${idOf(1)}`]);
  await here.close();
});

test("a friend is typing until a message comes, or for some seconds", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const here = await world();
  const typing = { type: "TYPING", senderId: "ann" };
  here.sockets.last.say(typing);
  assert.equal(here.model.isTyping("ann"), true);
  await here.push(message(1));
  assert.equal(here.model.isTyping("ann"), false);
  here.sockets.last.say(typing);
  context.mock.timers.tick(5_000);
  assert.equal(here.model.isTyping("ann"), false);
  await here.close();
});
