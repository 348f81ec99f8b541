/** What survives a reload: the client with a store in IndexedDB. */

import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { createStore, keys } from "idb-keyval";

import { ChatClient, type ChatError, type ChatStore, type ClientOptions, type Outgoing } from "../src/index.js";
import { indexedDbStore, storeOver } from "../src/store.js";
import { EPOCH_MS, FakeFetch, FakeSockets, idOf, page, type FakeSocket } from "./fakes.js";
import { FakeClock, until } from "./time.js";

let users = 0;

/** A store of a new user. */
function newStore(): ChatStore {
  return indexedDbStore(`user${++users}`);
}

/** A tab of a browser. Its network is controlled by the test, and its store is real. */
class Tab {
  readonly sockets = new FakeSockets();
  readonly outgoing: Outgoing[] = [];
  readonly errors: ChatError[] = [];
  readonly client: ChatClient;

  constructor(store: ChatStore, readonly clock = new FakeClock(), options: Partial<ClientOptions> = {}) {
    this.client = new ChatClient({
      url: "https://chat.example.com",
      token: () => "t",
      store,
      webSocket: this.sockets.constructorFor,
      fetch: new FakeFetch(() => page([])).fetch,
      clock,
      random: () => 1,
      onOutgoing: (outgoing) => this.outgoing.push(outgoing),
      onError: (error) => this.errors.push(error),
      ...options,
    });
  }

  async online(): Promise<FakeSocket> {
    this.client.connect();
    await until(() => this.sockets.all.length > 0);
    this.sockets.last.open();
    return this.sockets.last;
  }

  /** Waits for the first n sends on the network, and returns their contents. */
  async sent(n: number): Promise<unknown[]> {
    await until(() => this.sockets.last.requests.length >= n);
    return this.sockets.last.requests.map(({ content }) => content);
  }

  acknowledge(requestId: unknown, n: number): void {
    this.sockets.last.say({ type: "ACK", requestId, id: idOf(n), timestamp: EPOCH_MS + n });
  }

  async close(): Promise<void> {
    const closed = this.client.close();
    await this.clock.pass(1_000);
    await closed;
  }

  /** The states of sends that were told, with their contents. */
  get told(): string[] {
    return this.outgoing.map(({ content, state, error }) => [content, state, error?.code].filter(Boolean).join(" "));
  }
}

/** Sends, and does not wait. */
function say(tab: Tab, content: string, requestId: string): void {
  tab.client.sendToUser("ann", content, { requestId }).catch(() => {});
}

const kept = async (store: ChatStore) => (await store.unsent()).map(({ requestId }) => requestId);

/** Waits until the store has these sends. */
async function keeps(store: ChatStore, ids: string[]): Promise<void> {
  for (const start = Date.now(); ; ) {
    const now = await kept(store);
    if (now.join() === ids.join()) return;
    assert(Date.now() - start < 5_000, `${now} instead of ${ids}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("messages that were not sent survive a reload, with their ids and in order", async () => {
  const store = newStore();
  const before = new Tab(store);
  say(before, "one", "r1");
  say(before, "two", "r2");
  await keeps(store, ["r1", "r2"]);
  const after = new Tab(store);
  const socket = await after.online();
  say(after, "three", "r3");
  assert.deepEqual(await after.sent(1), ["one"]);
  after.acknowledge("r1", 1);
  await after.sent(2);
  after.acknowledge("r2", 2);
  await after.sent(3);
  after.acknowledge("r3", 3);
  await keeps(store, []);
  assert.deepEqual(socket.requests.map(({ requestId }) => requestId), ["r1", "r2", "r3"]);
  assert.deepEqual(after.told, ["one sending", "two sending", "three sending", "one sent", "two sent", "three sent"]);
  await after.close();
});

test("a message with a result is kept no more, and one that close has stopped is sent later", async () => {
  const store = newStore();
  const tab = new Tab(store);
  await tab.online();
  say(tab, "wrong", "r1");
  await tab.sent(1);
  tab.sockets.last.say({ type: "ERROR", code: "bad_request", message: "no", requestId: "r1" });
  await keeps(store, []);
  say(tab, "stopped", "r2");
  await tab.sent(2);
  await tab.close();
  assert.deepEqual(tab.told, ["wrong sending", "wrong failed bad_request", "stopped sending", "stopped failed closed"]);
  await keeps(store, ["r2"]);
  const { length } = tab.sockets.all;
  tab.client.connect();
  await until(() => tab.sockets.all.length > length);
  tab.sockets.last.open();
  await tab.sent(1);
  assert.equal(tab.sockets.last.requests[0]!["requestId"], "r2");
  tab.acknowledge("r2", 2);
  await keeps(store, []);
  await tab.close();
});

test("a message that was tried is repeated for nine minutes, and not later", async () => {
  const store = newStore();
  const first = new Tab(store);
  await first.online();
  say(first, "tried", "r1");
  await first.sent(1);
  for (const [ms, expected] of [[8 * 60_000, "tried sending"], [9 * 60_000, "tried failed unacknowledged"]] as const) {
    const clock = new FakeClock();
    await clock.pass(ms);
    const later = new Tab(store, clock);
    await later.online();
    if (ms < 9 * 60_000) await later.sent(1);
    await until(() => later.told.at(-1) === expected, 5_000, () => later.told.join());
    assert.equal(later.sockets.last.requests.length, ms < 9 * 60_000 ? 1 : 0);
    // As a browser ends a tab, without a close.
    later.sockets.last.readyState = 3;
  }
  await keeps(store, ["r1"]);
  await store.forget("r1");
  await keeps(store, []);
});

test("a message that was never tried is sent after any time", async () => {
  const store = newStore();
  say(new Tab(store), "late", "r1");
  await keeps(store, ["r1"]);
  const clock = new FakeClock();
  await clock.pass(86_400_000);
  const later = new Tab(store, clock);
  await later.online();
  assert.deepEqual(await later.sent(1), ["late"]);
  await later.close();
});

test("two tabs send a message with one id, and one that another tab has sent is not sent again", async () => {
  const store = newStore();
  const [a, b] = [new Tab(store), new Tab(store)];
  say(a, "once", "r1");
  await keeps(store, ["r1"]);
  b.client.connect();
  await until(() => b.told.length === 1);
  await a.online();
  await a.sent(1);
  a.acknowledge("r1", 1);
  await keeps(store, []);
  await until(() => b.sockets.all.length > 0);
  b.sockets.last.open();
  await until(() => b.told.length === 2);
  assert.deepEqual(b.told, ["once sending", "once failed sent_elsewhere"]);
  assert.equal(b.sockets.last.requests.length, 0);
  await Promise.all([a.close(), b.close()]);
});

test("without a working store, messages are sent all the same", async () => {
  const broken = new Proxy({}, { get: () => () => Promise.reject(new Error("no room")) }) as ChatStore;
  const tab = new Tab(broken);
  await tab.online();
  const send = tab.client.sendToUser("ann", "hi", { requestId: "r1" });
  await tab.sent(1);
  tab.acknowledge("r1", 1);
  assert.equal((await send).id, idOf(1));
  assert.deepEqual(new Set(tab.errors.map(({ code }) => code)), new Set(["store"]));
  await tab.close();
});

for (const [name, fail] of [
  ["at once", () => Promise.reject(new Error("no room"))],
  ["late", () => new Promise<never>((_, reject) => setTimeout(() => reject(new Error("no room")), 20))],
] as const) {
  test(`a message is sent although only its keep fails, ${name}`, async () => {
    const store = newStore();
    const tab = new Tab({ ...store, keep: fail });
    await tab.online();
    const send = tab.client.sendToUser("ann", "hi", { requestId: "r1" });
    await until(() => tab.sockets.last.requests.length > 0 || tab.outgoing.length > 1);
    assert.deepEqual(tab.told, ["hi sending"]);
    tab.acknowledge("r1", 1);
    assert.equal((await send).id, idOf(1));
    await tab.close();
  });
}

const invalid: [string, string][] = [["another content", "two"], ["a content that is too long", "x".repeat(40_000)]];
for (const [name, content] of invalid) {
  for (const restored of [false, true]) {
    test(`a second send with ${name} does not stop ${restored ? "a restored" : "the first"} one`, async () => {
      const store = newStore();
      say(new Tab(store), "one", "r1");
      await keeps(store, ["r1"]);
      const tab = new Tab(restored ? store : newStore());
      if (!restored) say(tab, "one", "r1");
      await assert.rejects(tab.client.sendToUser("ann", content, { requestId: "r1" }), { code: "bad_request" });
      await keeps(tab.client.store!, ["r1"]);
      await tab.online();
      await until(() => tab.sockets.last.requests.length > 0 || tab.outgoing.length > 3);
      assert.deepEqual(await tab.sent(1), ["one"]);
      tab.acknowledge("r1", 1);
      await keeps(tab.client.store!, []);
      await until(() => tab.told.at(-1) === "one sent");
      await tab.close();
    });
  }
}

test("a send by REST forgets a kept message only if it is sent and not under way", async () => {
  const store = newStore();
  let status = 400;
  const { fetch } = new FakeFetch(({ method }) => {
    if (method !== "POST") return page([]);
    return { status, json: status === 200 ? { id: idOf(1), timestamp: EPOCH_MS } : { detail: "no" } };
  });
  const tab = new Tab(store, undefined, { fetch });
  const byRest = () => tab.client.sendByRest({ receiverId: "ann" }, "one", { requestId: "r1" });
  await store.keep({ requestId: "r1", to: { receiverId: "ann" }, content: "one", at: 1 });
  await assert.rejects(byRest(), { code: "bad_request" });
  assert.deepEqual(await kept(store), ["r1"]);
  status = 200;
  await byRest();
  await keeps(store, []);
  say(tab, "one", "r1");
  await keeps(store, ["r1"]);
  await byRest();
  await tab.online();
  assert.deepEqual(await tab.sent(1), ["one"]);
  await tab.close();
});

test("a message that is kept twice is sent once", async () => {
  const store = newStore();
  const one = { requestId: "r1", to: { receiverId: "ann" }, content: "one", at: 1 };
  await store.keep(one);
  await store.keep(one);
  assert.deepEqual(await kept(store), ["r1"]);
  // A store of the application may not care.
  const tab = new Tab({ ...store, unsent: async () => [one, { ...one, content: "two" }] });
  await tab.online();
  assert.deepEqual(await tab.sent(1), ["one"]);
  tab.acknowledge("r1", 1);
  await keeps(store, []);
  assert.deepEqual(tab.told, ["one sending", "one sent"]);
  await tab.close();
});

test("a content is repeated with the same bytes, and values are kept until they are cleared", async () => {
  const store = newStore();
  const content = { b: [-0, 1e21, "é"], 2: "x", 1: { __proto__: null, at: new Date(0) } };
  await store.keep({ requestId: "r1", to: { groupId: "g" }, content: content as never, at: 1 });
  assert.equal(JSON.stringify((await store.unsent())[0]!.content), JSON.stringify(content));
  await store.set("list", [1]);
  assert.deepEqual(await store.get("list"), [1]);
  await store.clear();
  assert.deepEqual([await store.get("list"), await store.unsent()], [undefined, []]);
});

/** Values in memory, as text, of which so many characters have room. */
function valuesOf(room = Infinity) {
  const all = new Map<string, string>();
  const valueOf = <T>(key: string) => (all.has(key) ? (JSON.parse(all.get(key)!) as T) : undefined);
  return {
    all,
    get: async <T>(key: string) => valueOf<T>(key),
    async update<T>(key: string, change: (old: T | undefined) => T): Promise<void> {
      const text = JSON.stringify(change(valueOf<T>(key)));
      const others = [...all].filter(([other]) => other !== key);
      if (JSON.stringify([...others, [key, text]]).length > room) throw new DOMException("no room", "QuotaExceededError");
      all.set(key, text);
    },
    keys: async () => [...all.keys()],
    remove: async (key: string) => void all.delete(key),
    clear: async () => all.clear(),
  };
}

const namesIn = ({ all }: ReturnType<typeof valuesOf>) => [...all.keys()].filter((key) => key !== "names");

test("of more than 100 values the newest are kept, also by the next store", async () => {
  const values = valuesOf();
  for (const half of [0, 1]) {
    const store = storeOver(values);
    for (let n = half * 75; n < half * 75 + 75; n++) await store.set(`user ${n}`, n);
    await store.set("list", half);
  }
  const there = namesIn(values);
  assert.equal(there.length, 100);
  assert(there.includes("list") && there.includes("user 149") && !there.includes("user 50"), there.join());
  assert.equal(await storeOver(values).get("user 50"), undefined);
});

test("of more than 100 values nothing is left in IndexedDB of the others", async () => {
  const store = newStore();
  for (let n = 0; n < 110; n++) await store.set(`user ${n}`, n);
  assert.equal((await keys(createStore(`serverless-chat user${users}`, "values"))).length, 101);
});

test("values without a name are removed, and a value that another tab has removed gets a name again", async () => {
  const values = valuesOf();
  values.all.set("user of an earlier version", "1");
  const [a, b] = [storeOver(values), storeOver(values)];
  await a.keep({ requestId: "r1", to: { receiverId: "ann" }, content: "hi", at: 1 });
  await b.set("user ann", 1);
  for (let n = 0; n < 100; n++) await a.set(`user ${n}`, n);
  assert.equal(namesIn(values).length, 101, "100 values and the unsent messages");
  assert.equal(await a.get("user ann"), undefined);
  await b.set("user ann", 2);
  await a.set("user 100", 100);
  assert.equal(await a.get("user ann"), 2);
  for (let n = 101; n < 201; n++) await a.set(`user ${n}`, n);
  assert.equal(await a.get("user ann"), undefined);
  assert.deepEqual([namesIn(values).length, await kept(a)], [101, ["r1"]]);
});

test("a name that could not be noted is noted with the next value", async () => {
  const values = valuesOf();
  let isFull = true;
  const update: typeof values.update = async (key, change) => {
    if (isFull && key === "names") throw new DOMException("no room", "QuotaExceededError");
    await values.update(key, change);
  };
  const store = storeOver({ ...values, update });
  await assert.rejects(store.set("user ann", 1), { name: "QuotaExceededError" });
  isFull = false;
  await store.set("user ann", 2);
  assert.deepEqual(await values.get("names"), ["user ann"]);
});

test("if there is no room, an unsent message takes the place of values", async () => {
  const values = valuesOf(2_000);
  const store = storeOver(values);
  await store.set("user ann", "x".repeat(1_500));
  await store.keep({ requestId: "r1", to: { receiverId: "ann" }, content: "y".repeat(1_000), at: 1 });
  assert.deepEqual(await kept(store), ["r1"]);
  assert.equal(await store.get("user ann"), undefined);
  await assert.rejects(store.set("user ann", "x".repeat(1_500)), { name: "QuotaExceededError" });
});

for (const [how, end] of [
  ["forgotten", (store: ChatStore) => store.forget("r1")],
  ["cleared", (store: ChatStore) => store.clear()],
] as const) {
  test(`an unsent message that is ${how} while values make room for it is not kept`, async () => {
    const values = valuesOf(2_000);
    const store = storeOver(values);
    await store.set("user ann", "x".repeat(1_500));
    const keep = store.keep({ requestId: "r1", to: { receiverId: "ann" }, content: "y".repeat(1_000), at: 1 });
    await Promise.allSettled([keep, end(store)]);
    assert.deepEqual(await kept(store), []);
    assert.doesNotMatch([...values.all.values()].join(), /yyy/);
  });
}

test("nothing is written after the values were cleared", async () => {
  const values = valuesOf();
  const store = storeOver(values);
  for (let n = 0; n < 100; n++) await store.set(`user ${n}`, n);
  const set = store.set("user 100", 100);
  await Promise.all([set, store.clear()]);
  assert.deepEqual([...values.all.keys()], []);
});
