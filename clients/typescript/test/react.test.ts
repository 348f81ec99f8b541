/** The hooks on a server, and what they show. The example application runs them in a browser: see ../runtimes. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";

import { ChatClient, type ChatStore, type Content } from "../src/index.js";
import { createModel } from "../src/model.js";
import { ChatProvider, useChat, useConversations, useMessages, useTyping } from "../src/react.js";
import { storeOver } from "../src/store.js";
import { FakeFetch, FakeSockets, idOf, Later, message, page, recall, type FakeAnswer, type FakeRequest } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** The model of Ben, whose server answers as the test says. */
class World {
  readonly clock = new FakeClock();
  readonly sockets = new FakeSockets();
  /** The history of each conversation, the oldest first. */
  history: object[] = [];
  conversations: object[] = [];
  pageSize = 50;
  /** What the store keeps. */
  readonly values = new Map<string, unknown>();
  isFull = false;
  readonly store: ChatStore = storeOver({
    get: async (key) => this.values.get(key) as never,
    update: (key, change) => {
      if (this.isFull) throw new DOMException("no room", "QuotaExceededError");
      this.values.set(key, change(this.values.get(key) as never));
      return Promise.resolve();
    },
    keys: async () => [...this.values.keys()],
    remove: async (key) => void this.values.delete(key),
    clear: async () => this.values.clear(),
  });
  /** Answers to lists and histories wait for this. */
  held: Promise<unknown> | undefined;
  readonly server = new FakeFetch((request) => this.#answer(request));
  readonly client = new ChatClient<Content>({
    url: "https://chat.example.com",
    token: () => "t",
    webSocket: this.sockets.constructorFor,
    fetch: this.server.fetch,
    clock: this.clock,
    random: () => 1,
    store: this.store,
  });
  readonly model = createModel(this.client, "ben");
  readonly chat = this.model.chatWith({ userId: "ann" });
  stop = () => {};

  async #answer({ path, query }: FakeRequest): Promise<FakeAnswer> {
    const { conversations } = this;
    if (path === "/api/conversation" || path === "/api/history") await this.held;
    if (path === "/api/conversation") return { json: conversations };
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

  /** The list, with the number of unread messages of each. */
  get listed(): string[] {
    return this.model.list().conversations.map((one) => `${"groupId" in one ? one.groupId : one.userId} ${one.unread}`);
  }

  /** How often the list was asked for. */
  get lists(): number {
    return this.server.requests.filter(({ path }) => path === "/api/conversation").length;
  }

  get shown(): string[] {
    return this.chat.view.messages.map(({ content, recalledAt, state }) => [recalledAt ? "-" : content, state].join(""));
  }
}

async function world(change: Partial<World> = {}): Promise<World> {
  const made = Object.assign(new World(), change);
  made.stop = made.model.start();
  made.model.watchList();
  made.chat.watch();
  await made.connect();
  return made;
}

/** The signal after which the list is loaded. */
const GROUP = { type: "GROUP", groupId: "old", event: "dissolved" };

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

test("a message that comes while older ones are loaded leaves no gap", async () => {
  const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
  const here = await world({ history: numbers(1, 60).map((n) => message(n)) });
  for (const n of numbers(61, 1_010)) here.sockets.last.say(message(n));
  await here.clock.pass(1_000);
  assert.deepEqual([here.shown.length, here.shown[0]], [1_000, "m11"]);
  const held = new Later<void>();
  here.held = held.promise;
  const older = here.chat.view.loadOlder();
  await here.push(message(1_011));
  held.resolve();
  await older;
  assert.deepEqual([here.shown[0], here.chat.view.hasOlder], ["m12", true]);
  await here.chat.view.loadOlder();
  assert.deepEqual(here.shown, numbers(1, 1_011).map((n) => `m${n}`));
  await here.close();
});

test("the list is sorted by the last message, and counts what is unread", async () => {
  const conversations = [
    { type: "unicast", userId: "ann", unread: 0, last: message(1) },
    { type: "multicast", groupId: "g", name: "Team", unread: 2, last: { ...message(2), groupId: "g" } },
  ];
  const here = await world({ conversations });
  assert.deepEqual(here.listed, ["g 2", "ann 0"]);
  const before = here.server.requests.length;
  await here.push(message(3));
  assert.deepEqual(here.listed, ["ann 1", "g 2"]);
  await here.push({ type: "READ", readerId: "ben", userId: "ann", until: idOf(3) });
  assert.deepEqual(here.listed, ["ann 0", "g 2"]);
  await here.push(answered(4, "from another device"));
  assert.deepEqual(here.listed, ["ann 0", "g 2"]);
  await here.push({ type: "READ", readerId: "ann", userId: "ann", until: idOf(4) });
  assert.deepEqual(here.model.list().conversations[0], { ...conversations[0], last: answered(4, "from another device"), readUntil: idOf(3), peerReadUntil: idOf(4) });
  assert.equal(here.server.requests.length, before, "nothing was asked");
  await here.push({ ...message(5), senderId: "cara" });
  assert.equal(here.server.lines.at(-1), "GET /api/conversation", "cara is not in the list");
  await here.close();
});

test("many messages outside the list load it once at a time, and once more", async () => {
  const conversations = Array.from({ length: 200 }, (_, n) => ({ type: "unicast", userId: `user${n}`, unread: 1 }));
  const here = await world();
  const before = here.lists;
  const held = new Later<void>();
  here.held = held.promise;
  for (let n = 0; n < 1_000; n++) here.sockets.last.say({ ...message(n + 1), senderId: `user${n % 200}` });
  await here.clock.pass(1_000);
  assert.equal(here.lists - before, 1);
  here.conversations = conversations;
  held.resolve();
  await settle();
  await settle();
  assert.equal(here.lists - before, 2);
  assert.equal(here.listed.length, 200);
  await here.close();
});

test("a sender whom the server does not list is shown, and asked for once, a group once a minute", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const here = await world({ conversations: [{ type: "unicast", userId: "ann", unread: 0, last: message(1) }] });
  const before = here.lists;
  const say = (n: number) => here.push({ ...message(n), senderId: "shop" });
  for (let n = 2; n < 12; n++) await say(n);
  assert.equal(here.lists - before, 1);
  assert.deepEqual(here.listed, ["shop 10", "ann 0"]);
  await here.push(GROUP);
  assert.equal(here.lists - before, 2);
  assert.deepEqual(here.listed, ["shop 10", "ann 0"], "after a load for another reason");
  here.conversations = [{ type: "unicast", userId: "shop", unread: 7, last: message(21) }];
  await here.push(GROUP);
  assert.deepEqual(here.listed, ["shop 7"], "the server has listed it");
  here.conversations = [];
  await here.push(GROUP);
  assert.deepEqual(here.listed, [], "the server lists it no more");
  const asked = here.lists;
  const minute = async () => {
    context.mock.timers.tick(60_000);
    await here.clock.pass(200);
  };
  for (const n of [22, 23, 24]) await here.push({ ...message(n), type: "multicast", groupId: "a" });
  assert.equal(here.lists - asked, 1);
  assert.deepEqual(here.listed, [], "the name of a group is known by the server alone");
  await here.push({ ...message(25), type: "multicast", groupId: "b" });
  here.conversations = [{ type: "multicast", groupId: "b", name: "B", unread: 1, last: { ...message(25), groupId: "b" } }];
  await minute();
  assert.deepEqual([here.lists - asked, here.listed], [2, ["b 1"]], "a message in the pause is not forgotten");
  await minute();
  assert.equal(here.lists - asked, 2, "nothing came");
  await here.push({ ...message(26), type: "multicast", groupId: "a" });
  assert.equal(here.lists - asked, 3);
  here.stop();
  await here.close();
});

test("a message that cannot load the list does not delay the next that can", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const here = new World();
  here.stop = here.model.start();
  await here.connect();
  await here.push({ ...message(1), senderId: "shop" });
  here.model.watchList();
  await settle();
  const before = here.lists;
  await here.push({ ...message(2), type: "multicast", groupId: "new" });
  assert.equal(here.lists - before, 1);
  here.stop();
  await here.close();
});

test("of the list the 100 newest are kept, without those whom the server does not list", async () => {
  const conversations = Array.from({ length: 150 }, (_, n) => {
    return { type: "unicast", userId: `user${n}`, unread: 0, last: message(150 - n) };
  });
  const here = await world({ conversations });
  await here.push({ ...message(151), senderId: "shop" });
  assert.deepEqual([here.listed.length, here.listed[0]], [151, "shop 1"]);
  assert.deepEqual(here.values.get("list"), conversations.slice(0, 100));
  await here.close();
});

for (const how of ["resolve", "reject"] as const) {
  test(`a question under way at the end keeps nothing when it is answered: ${how}`, async () => {
    const here = await world();
    await here.push(message(1));
    assert.deepEqual([...here.values.keys()].sort(), ["list", "names", "user ann"]);
    const held = new Later<void>();
    here.held = held.promise;
    here.sockets.last.say(GROUP);
    here.chat.watch();
    await settle();
    const asked = here.server.requests.slice(-2).map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(asked.sort(), ["GET /api/conversation", "GET /api/history"], "both are under way");
    here.stop();
    await here.store.clear();
    held[how](undefined!);
    await here.clock.pass(1_000);
    assert.deepEqual([...here.values.keys()], []);
    // As React does in development.
    here.held = undefined;
    here.stop = here.model.start();
    await here.connect();
    assert.deepEqual([...here.values.keys()].sort(), ["list", "names", "user ann"]);
    await here.close();
  });
}

test("to retry a message whose requestId was refused does not stop the one that waits", async () => {
  const here = await world();
  here.sockets.last.end();
  const first = here.client.sendToUser("ann", "one", { requestId: "r1" });
  await assert.rejects(here.client.sendToUser("ann", "two", { requestId: "r1" }), { code: "bad_request" });
  assert.deepEqual(here.shown, ["twofailed"]);
  here.chat.view.retry(here.chat.view.messages[0]!);
  await here.clock.pass(1_000);
  here.sockets.last.open();
  await settle();
  await here.push({ type: "ACK", requestId: "r1", id: idOf(6), timestamp: 0 });
  assert.equal((await first).id, idOf(6));
  assert.deepEqual(here.sockets.last.requests.map(({ content }) => content), ["one", "two"]);
  await here.close();
});

test("of endless messages and senders the newest are shown", async (context) => {
  context.mock.timers.enable({ apis: ["Date"] });
  const here = await world({ conversations: [] });
  const stop = here.chat.watch();
  for (let n = 1; n <= 1_200; n++) here.sockets.last.say(message(n));
  await here.clock.pass(1_000);
  assert.deepEqual([here.shown.length, here.shown[0], here.shown.at(-1)], [1_000, "m201", "m1200"]);
  assert.equal(here.chat.view.hasOlder, true);
  for (let n = 1; n <= 1_200; n++) here.sockets.last.say({ ...message(1_200 + n), senderId: `user${n}` });
  await here.clock.pass(1_000);
  assert.deepEqual([here.listed.length, here.listed[0]], [1_000, "user1200 1"]);
  // What no component shows is not remembered.
  assert.deepEqual(here.model.chatWith({ userId: "user1200" }).view.messages, []);
  stop();
  await here.close();
});

test("a full storage of the browser does not stop what is shown and sent", async () => {
  const here = await world({ isFull: true });
  await here.push(message(1));
  here.chat.view.send("hello");
  await settle();
  const { requestId } = here.sockets.last.requests.at(-1)!;
  await here.push({ type: "ACK", requestId, id: idOf(2), timestamp: 0 });
  assert.deepEqual([here.shown, here.listed], [["m1", "hello"], ["ann 1"]]);
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
