import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ChatClient,
  type ChatError,
  type ClientOptions,
  type Content,
  type Message,
  type Notification,
  type PrivateMessage,
  type RecalledFrame,
  type State,
} from "../src/index.js";
import { placeOf } from "../src/place.js";
import type { LogEntry } from "../src/protocol.js";
import {
  EPOCH_MS,
  FakeFetch,
  FakeSockets,
  idOf,
  Later,
  message,
  numbers,
  page,
  recall,
  type FakeAnswer,
  type FakeRequest,
} from "./fakes.js";
import { FakeClock, settle, until } from "./time.js";

const TIMING = {
  settleMs: 20_000,
  pullEveryMs: 600_000,
  orderMs: 100,
  overlapMs: 50,
  backoff: { baseMs: 500, maxMs: 30_000 },
};

/**
 * A client on a network that its test controls. The server knows which messages are missed and which were ever sent.
 */
class World {
  readonly clock = new FakeClock();
  readonly sockets = new FakeSockets();
  missed: Message[] = [];
  log: LogEntry[] = [];
  /** The ids of the messages of each page, by its token: `p1`, `p2`, … Undefined if the token has expired. */
  readonly #pages = new Map<string, string[] | undefined>();
  /** Replaces the answer to a REST call. */
  instead: (line: string) => FakeAnswer | Promise<FakeAnswer> | undefined = () => undefined;
  /** Answers a send by REST. */
  accept: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer> = () => ({ status: 503 });
  readonly server = new FakeFetch(async (request) => {
    const { method, query } = request;
    const answer = await this.instead(this.server.lines.at(-1)!);
    if (answer !== undefined) return answer;
    if (method === "POST") return this.accept(request);
    const [after, since] = [query.get("after") ?? "", query.get("since")];
    if (method === "DELETE") return this.#drop(query.getAll("page"));
    if (since !== null) return page(this.log.filter((one) => placeOf(one) > since));
    return this.page(this.missed.filter(({ id }) => id > after));
  });
  tokens = 0;
  readonly given: Message[] = [];
  readonly recalled: RecalledFrame[] = [];
  readonly notifications: Notification[] = [];
  readonly errors: ChatError[] = [];
  readonly states: State[] = [];
  readonly client: ChatClient;

  constructor(options: Partial<ClientOptions> = {}) {
    this.client = new ChatClient({
      url: "https://chat.example.com",
      token: async () => `t${++this.tokens}`,
      onMessage: (one) => void this.given.push(one),
      onRecalled: (one) => void this.recalled.push(one),
      onNotification: (one) => this.notifications.push(one),
      onError: (error) => this.errors.push(error),
      onState: (state) => this.states.push(state),
      webSocket: this.sockets.constructorFor,
      fetch: this.server.fetch,
      clock: this.clock,
      random: () => 1,
      ...options,
      timing: { ...TIMING, ...options.timing },
    });
  }

  /** A page of missed messages, with a token if the real server would give one. */
  page(messages: Message[], next?: string): FakeAnswer {
    if (messages.length === 0 && next === undefined) return page([]);
    const token = `p${this.#pages.size + 1}`;
    this.#pages.set(token, messages.map(({ id }) => id));
    return page(messages, next === undefined ? { token } : { next, token });
  }

  #drop(tokens: string[]): FakeAnswer {
    const pages = tokens.map((token) => this.#pages.get(token));
    if (pages.length === 0 || pages.length > 20) return { status: 400 };
    if (pages.includes(undefined)) return { status: 403 };
    this.missed = this.missed.filter(({ id }) => !pages.flat().includes(id));
    return {};
  }

  /** Lets all tokens expire. */
  expire(): void {
    for (const token of this.#pages.keys()) this.#pages.set(token, undefined);
  }

  static online(options?: Partial<ClientOptions>): Promise<World> {
    return new World(options).connected();
  }

  async connected(): Promise<this> {
    this.client.connect();
    await this.dialled();
    await this.opened();
    return this;
  }

  /** A socket is being opened. */
  async dialled(): Promise<void> {
    await settle();
  }

  async opened(): Promise<void> {
    this.sockets.last.open();
    await settle();
  }

  async push(...entries: LogEntry[]): Promise<void> {
    this.log.push(...entries);
    for (const one of entries) this.sockets.last.say(one);
    await settle();
  }

  /** Ends the connection and opens another. */
  async reconnected(): Promise<void> {
    const { length } = this.sockets.all;
    this.sockets.last.end();
    while (this.sockets.all.length === length) await this.clock.pass(100);
    await this.opened();
  }

  /** Closes the client and the other side. */
  async closed(): Promise<void> {
    const closed = this.client.close();
    this.sockets.all.at(-1)?.end(1000);
    await closed;
  }

  get codes(): string[] {
    return this.errors.map(({ code }) => code);
  }

  /** The requests since this was last called. */
  asked(): string[] {
    const lines = this.server.lines.map((line) => line.replace(/ \/api\/message| drop=false| version=2/g, ""));
    return lines.slice(this.#asked, (this.#asked = lines.length));
  }
  #asked = 0;
}

test("it connects, catches up, and is online", async () => {
  const world = new World();
  world.missed = [message(1), message(2)];
  world.client.connect();
  world.client.connect();
  await settle();
  assert.deepEqual(world.states, ["connecting"]);
  assert.equal(world.sockets.last.url, "wss://chat.example.com/ws");
  assert.deepEqual(world.sockets.last.protocols, ["chat.2", "t1"]);
  assert.deepEqual(world.asked(), [], "what comes before the connection is covered by nothing");
  await world.opened();
  assert.deepEqual(world.states, ["connecting", "catching_up", "online"]);
  assert.equal(world.client.state, "online");
  assert.deepEqual(world.asked(), ["GET", "DELETE page=p1"]);
  assert.deepEqual(numbers(world.given), [1, 2]);
  assert.deepEqual(world.missed, []);
  assert.equal(world.sockets.all.length, 1);
  await world.closed();
});

test("the socket address is derived from the API address or given", async () => {
  for (const [options, expected] of [
    [{ url: "http://127.0.0.1:3000/" }, "ws://127.0.0.1:3000/ws"],
    [{ url: "https://chat.example.com/v1" }, "wss://chat.example.com/v1/ws"],
    [{ url: "https://a.example.com", socketUrl: "wss://b.example.com/v1" }, "wss://b.example.com/v1"],
  ] as const) {
    const world = new World(options);
    world.client.connect();
    await settle();
    assert.equal(world.sockets.last.url, expected);
    void world.client.close();
  }
});

for (const url of ["chat.example.com", "wss://chat.example.com", "http://"]) {
  test(`an invalid address is refused at once (${url})`, () => {
    assert.throws(() => new World({ url }), TypeError);
  });
}

test("messages pushed during the pull are given after it, once", async () => {
  const world = new World();
  const answer = new Later<void>();
  world.instead = async (line) => {
    await answer.promise;
    return line.startsWith("GET") ? page(world.missed) : {};
  };
  await world.connected();
  await world.push(message(4), message(3));
  world.missed = [message(1), message(2), message(3)];
  assert.deepEqual(numbers(world.given), []);
  answer.resolve();
  await settle();
  assert.deepEqual(numbers(world.given), [1, 2, 3, 4]);
});

test("messages sent to a dead connection are given once after reconnecting", async () => {
  const world = await World.online();
  await world.push(message(1));
  await world.clock.pass(100);
  world.log.push(message(2));
  world.missed = [message(3)];
  world.log.push(message(3));
  await world.reconnected();
  assert.deepEqual(numbers(world.given), [1, 2, 3]);
  await world.push(message(2), message(3), message(4));
  await world.clock.pass(100);
  assert.deepEqual(numbers(world.given), [1, 2, 3, 4]);
  assert.deepEqual(world.missed, []);
});

test("repeated messages of a connection's last seconds are given once and dropped", async () => {
  const world = await World.online();
  await world.push(message(1), message(2), message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), [1, 2, 3]);
  world.missed = [message(2), message(3), message(4)];
  world.log.push(message(4));
  await world.reconnected();
  assert.deepEqual(numbers(world.given), [1, 2, 3, 4]);
  assert.deepEqual(world.missed, []);
});

test("messages after the close are not given, and the next client pulls them", async () => {
  const world = await World.online();
  await world.push(message(1));
  const closed = world.client.close();
  world.sockets.last.say(message(2));
  world.sockets.last.end(1000);
  await closed;
  assert.deepEqual(numbers(world.given), [1]);
  const next = new World({ stored: world.given.map(({ id }) => id) });
  next.missed = [message(1), message(2)];
  await next.connected();
  assert.deepEqual(numbers(next.given), [2]);
  assert.deepEqual(next.missed, []);
});

test("messages pushed by the next connection wait for older ones", async () => {
  const world = await World.online();
  world.log.push(message(1));
  const answer = new Later<void>();
  world.instead = async (line) => {
    await answer.promise;
    return line.includes("since") ? page(world.log) : page([]);
  };
  await world.reconnected();
  world.sockets.last.say(message(2));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), []);
  answer.resolve();
  await settle();
  assert.deepEqual(numbers(world.given), [1, 2]);
});

test("messages to a connection whose handshake answer was lost are given", async () => {
  const world = new World();
  world.client.connect();
  await world.dialled();
  world.log.push(message(1));
  await world.reconnected();
  assert.deepEqual(numbers(world.given), [1]);
});

test("each connection has a new token, and waits grow until one is stable", async () => {
  const world = new World();
  world.client.connect();
  await settle();
  const waits: number[] = [];
  for (let n = 0; n < 8; n++) {
    world.sockets.last.end();
    assert.equal(world.client.state, "waiting");
    const before = world.sockets.all.length;
    let waited = 0;
    for (; world.sockets.all.length === before; waited += 250) await world.clock.pass(250);
    waits.push(waited);
  }
  assert.deepEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  const tokens = world.sockets.all.map(({ protocols }) => protocols[1]);
  assert.deepEqual(tokens, Array.from({ length: 9 }, (_, n) => `t${n + 1}`));
  await world.opened();
  await world.clock.pass(9_999);
  world.sockets.last.end();
  await world.clock.pass(29_999);
  assert.equal(world.sockets.all.length, 9, "it was not open long enough");
  await world.clock.pass(1);
  await world.opened();
  await world.clock.pass(10_000);
  world.sockets.last.end();
  await world.clock.pass(500);
  assert.equal(world.sockets.all.length, 11);
  assert.deepEqual(new Set(world.codes), new Set(["network", "address"]));
  assert.equal(world.codes.filter((code) => code === "address").length, 1);
});

for (const [way, token] of [
  ["rejects", () => Promise.reject(new Error("the host is away"))],
  ["returns an invalid token", () => "no token"],
] as const) {
  test(`if the token callback ${way}, it is called again later`, async () => {
    let asked = 0;
    const sockets = new FakeSockets();
    const Socket = sockets.constructorFor;
    class Strict extends Socket {
      constructor(url: string, protocols: string[]) {
        if (protocols.some((name) => name.includes(" "))) throw new DOMException("no subprotocol", "SyntaxError");
        super(url, protocols);
      }
    }
    const world = new World({ token: async () => (asked++ === 0 ? token() : "t"), webSocket: Strict });
    world.client.connect();
    await settle();
    assert.deepEqual(world.codes, ["token"]);
    assert.equal(world.client.state, "waiting");
    await world.clock.pass(500);
    assert.deepEqual(sockets.last.protocols, ["chat.2", "t"]);
    assert.equal(asked, 2);
  });
}

test("a message that the application rejects stays on the server, and later ones wait", async () => {
  let troubles = 2;
  const world: World = new World({
    onMessage: (one) => {
      if (troubles-- > 0) throw new Error("no room");
      world.given.push(one);
    },
  });
  world.missed = [message(1), message(2)];
  await world.connected();
  await world.push(message(3));
  assert.deepEqual(numbers(world.given), []);
  assert.equal(world.missed.length, 2);
  await world.clock.pass(500);
  assert.equal(world.missed.length, 2);
  await world.clock.pass(1_100);
  assert.deepEqual(numbers(world.given), [1, 2, 3]);
  assert.equal(world.missed.length, 0);
  assert.deepEqual(world.errors.map(({ code, message: text }) => [code, text]), Array(2).fill(["handler", "no room"]));
});

test("a failed pull is repeated, and sends work meanwhile", async () => {
  const world = new World();
  world.missed = [message(1)];
  let failures = 2;
  world.instead = (line) => (line.startsWith("GET") && failures-- > 0 ? { status: 503 } : undefined);
  const sent = world.client.sendToUser("ben", "hi");
  await world.connected();
  assert.equal(world.client.state, "catching_up");
  const [request] = world.sockets.last.requests;
  assert.equal(request?.["content"], "hi");
  world.sockets.last.say({ type: "ACK", requestId: request["requestId"], id: "1", timestamp: EPOCH_MS });
  assert.deepEqual(await sent, { id: "1", timestamp: EPOCH_MS });
  await world.clock.pass(1_500);
  assert.equal(world.client.state, "online");
  assert.deepEqual(numbers(world.given), [1]);
  assert.deepEqual(world.codes, ["unavailable", "unavailable"]);
});

test("a refused pull is repeated no sooner than the server says", async () => {
  const world = new World();
  let failures = 1;
  world.instead = () => (failures-- > 0 ? { status: 429, headers: { "retry-after": "20" } } : undefined);
  await world.connected();
  await world.clock.pass(19_999);
  assert.deepEqual(world.asked(), ["GET"]);
  await world.clock.pass(1);
  assert.equal(world.client.state, "online");
  await world.closed();
});

test("missed messages are pulled again soon after connecting and then regularly", async () => {
  const world = await World.online({ timing: { silenceMs: 3_600_000 } });
  world.asked();
  await world.clock.pass(TIMING.settleMs - 1);
  assert.deepEqual(world.asked(), []);
  await world.clock.pass(1);
  assert.deepEqual(world.asked(), ["GET"]);
  world.missed = [message(1)];
  await world.clock.pass(TIMING.pullEveryMs - 1);
  assert.deepEqual(world.asked(), []);
  await world.clock.pass(1);
  assert.deepEqual(world.asked(), ["GET", "GET", `GET since=${idOf(-60_000)}`, "DELETE page=p2"]);
  assert.deepEqual(numbers(world.given), [1]);
});

test("a missed message on an open connection causes a resumption", async () => {
  const world = await World.online({ timing: { silenceMs: 36_000_000, pullEveryMs: 3_600_000 } });
  await world.push(message(1));
  const taken = [message(2), message(1_000)];
  world.missed = [message(3_000_000)];
  world.log.push(...taken, ...world.missed);
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(numbers(world.given), [1, 2, 1_000, 3_000_000]);
});

test("a missed message behind empty pages causes a resumption", async () => {
  const world = await World.online();
  world.asked();
  world.missed = [message(100)];
  world.log.push(...world.missed);
  world.instead = (line) => {
    if (!line.startsWith("GET") || line.includes("since")) return undefined;
    if (line.includes("after")) return line.endsWith(idOf(50)) ? world.page([], idOf(60)) : world.page(world.missed);
    return world.page([], idOf(50));
  };
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(numbers(world.given), [100]);
  const pages = ["GET", `GET after=${idOf(50)}`, `GET after=${idOf(60)}`];
  assert.deepEqual(world.asked(), [...pages, ...pages, `GET since=${idOf(-60_000)}`, "DELETE page=p4 page=p5 page=p6"]);
  assert.deepEqual(world.missed, []);
  assert.equal(world.client.state, "online");
});

test("empty pages without a missed message are dropped", async () => {
  const world = await World.online();
  world.asked();
  world.instead = (line) => (line === "GET /api/message drop=false" ? world.page([], idOf(50)) : undefined);
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(world.asked(), ["GET", `GET after=${idOf(50)}`, "DELETE page=p1"]);
});

test("after an expired token messages are dropped with the next pull and given once", async () => {
  const taken = new Later<void>();
  const world: World = new World({ onMessage: async (one) => (world.given.push(one), taken.promise) });
  world.missed = [message(1)];
  await world.connected();
  world.expire();
  taken.resolve();
  await settle();
  assert.equal(world.client.state, "online");
  assert.deepEqual(numbers(world.missed), [1]);
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(numbers(world.missed), []);
  assert.deepEqual(numbers(world.given), [1]);
  assert.deepEqual(world.codes, []);
});

test("a server without page tokens is called no more often, and messages are given once", async () => {
  const world = new World({ timing: { silenceMs: 36_000_000 } });
  world.missed = world.log = [message(1), message(2)];
  world.instead = (line) => (line.includes("since") ? undefined : page(world.missed));
  await world.connected();
  assert.deepEqual(world.asked(), ["GET"]);
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(world.asked(), ["GET", "GET", `GET since=${idOf(-60_000)}`]);
  await world.clock.pass(TIMING.pullEveryMs - 1);
  assert.deepEqual(world.asked(), []);
  assert.deepEqual(numbers(world.given), [1, 2]);
  assert.equal(world.client.state, "online");
  assert.deepEqual(world.codes, []);
});

test("a pull without progress is repeated later, and pushed messages are given", async () => {
  const world = new World();
  world.instead = () => page([], { next: idOf(50) });
  world.log = [message(60)];
  await world.connected();
  await world.push(message(60));
  await world.clock.pass(10_000);
  assert.deepEqual(numbers(world.given), [60]);
  assert.equal(world.client.state, "catching_up");
  assert(world.asked().length < 20);
  world.instead = () => undefined;
  await world.clock.pass(30_000);
  assert.equal(world.client.state, "online");
});

test("messages pushed during the resumption wait for its end", async () => {
  const world = await World.online();
  world.missed = [message(2)];
  world.log.push(message(1), message(2));
  const answer = new Later<void>();
  world.instead = async (line) => {
    if (line.includes("since")) await answer.promise;
    return line.includes("since") ? page(world.log) : page(world.missed);
  };
  await world.clock.pass(TIMING.settleMs);
  world.sockets.last.say(message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), []);
  answer.resolve();
  await settle();
  assert.deepEqual(numbers(world.given), [1, 2, 3]);
});

test("a resumption continues on the next connection if this one is dead", async () => {
  const world = await World.online({ timing: { silenceMs: 36_000_000 } });
  await world.push(message(1));
  world.missed = [message(3_000_000)];
  world.log.push(message(2), ...world.missed);
  world.instead = (line) => (line.includes("since") ? { status: 503 } : undefined);
  await world.clock.pass(TIMING.settleMs);
  assert.deepEqual(numbers(world.given), [1]);
  world.instead = () => undefined;
  await world.reconnected();
  assert.deepEqual(numbers(world.given), [1, 2, 3_000_000]);
});

test("missed messages do not hide older messages of a dead connection", async () => {
  const world = new World();
  world.missed = [message(3_000_000)];
  await world.connected();
  world.log.push(message(2), message(3_000_000));
  await world.reconnected();
  assert.deepEqual(numbers(world.given), [3_000_000, 2]);
});

test("a send survives its connection with the same requestId and in order", async () => {
  const world = await World.online();
  const sends = [1, 2].map((n) => world.client.sendToGroup("g", n));
  const [first] = world.sockets.last.requests;
  await world.reconnected();
  assert.equal(world.client.unsent, 2);
  assert.deepEqual(world.sockets.last.requests, [first]);
  for (const id of ["1", "2"]) {
    const { requestId } = world.sockets.last.requests.at(-1)!;
    world.sockets.last.say({ type: "ACK", requestId, id, timestamp: EPOCH_MS });
  }
  assert.deepEqual((await Promise.all(sends)).map(({ id }) => id), ["1", "2"]);
  assert.deepEqual(world.sockets.last.requests.map(({ content }) => content), [1, 2]);
  assert.equal(world.client.unsent, 0);
});

test("request ids are random: two clients of a user share none", async () => {
  const worlds = await Promise.all([World.online(), World.online()]);
  const ids = worlds.flatMap((world) => {
    for (let n = 0; n < 100; n++) void world.client.sendToUser(`user${n}`, 1).catch(() => {});
    return world.sockets.last.requests.map(({ requestId }) => String(requestId));
  });
  assert.equal(new Set(ids).size, 200);
  assert(ids.every((id) => /^[0-9a-f]{32}$/.test(id)), ids[0]);
  await Promise.all(worlds.map((world) => world.closed()));
});

test("a requestId comes from the application or is new", async () => {
  const world = await World.online();
  for (const to of ["a", "b", "c"]) void world.client.sendToUser(to, 1).catch(() => {});
  void world.client.sendToUser("d", 1, { requestId: "mine" }).catch(() => {});
  const ids = world.sockets.last.requests.map(({ requestId }) => requestId);
  assert.equal(new Set(ids).size, 4);
  assert.equal(ids[3], "mine");
  await world.closed();
});

test("an expired token ends the connection only", async () => {
  const world = await World.online();
  const sent = world.client.sendToUser("ben", "hi");
  const [first] = world.sockets.last.requests;
  world.sockets.last.say({ type: "ERROR", code: "token_expired", message: "expired", requestId: first?.["requestId"] });
  assert.equal(world.client.state, "waiting");
  await world.clock.pass(500);
  await world.opened();
  assert.deepEqual(world.sockets.last.protocols, ["chat.2", "t2"]);
  assert.deepEqual(world.sockets.last.requests, [first]);
  world.sockets.last.say({ type: "ACK", requestId: first?.["requestId"], id: "1", timestamp: EPOCH_MS });
  await sent;
});

const TOO_MANY = { type: "ERROR", code: "too_many_connections", message: "more than 32 connections" };

/** A client that a newer connection of the user has replaced. */
async function replaced(options?: Partial<ClientOptions>): Promise<World> {
  const world = await World.online(options);
  world.sockets.last.say(TOO_MANY);
  world.sockets.last.end(1000);
  return world;
}

test("a replaced client does not reconnect by itself", async () => {
  const world = await replaced();
  assert.equal(world.client.state, "replaced");
  assert.deepEqual(world.states.slice(-2), ["online", "replaced"]);
  assert.deepEqual(world.errors.map(({ code, message: text }) => [code, text]), [[TOO_MANY.code, TOO_MANY.message]]);
  assert.equal(world.clock.pending, 0);
  world.client.checkNow();
  await world.clock.pass(3_600_000);
  assert.equal(world.sockets.all.length, 1);
  assert.equal(world.tokens, 1);
});

test("a replaced client reconnects when told and loses nothing", async () => {
  const world = await World.online();
  const sent = world.client.sendToUser("ben", "before");
  const [request] = world.sockets.last.requests;
  world.sockets.last.say(TOO_MANY);
  void world.client.sendToUser("ben", "meanwhile").catch(() => {});
  world.missed = [message(1)];
  world.client.connect();
  world.client.connect();
  await world.dialled();
  await world.opened();
  assert.equal(world.client.state, "online");
  assert.deepEqual(world.sockets.last.protocols, ["chat.2", "t2"]);
  assert.equal(world.sockets.all.length, 2);
  assert.deepEqual(numbers(world.given), [1]);
  assert.deepEqual(world.sockets.last.requests, [request]);
  world.sockets.last.say({ type: "ACK", requestId: request?.["requestId"], id: "1", timestamp: EPOCH_MS });
  await sent;
  assert.deepEqual(world.sockets.last.requests.map(({ content }) => content), ["before", "meanwhile"]);
  world.sockets.last.end();
  assert.equal(world.client.state, "waiting", "from then on it stays connected");
  await world.closed();
});

test("two clients that replace each other do not loop", async () => {
  const first = await World.online();
  const second = await World.online();
  first.sockets.last.say(TOO_MANY);
  await Promise.all([first, second].map((world) => world.clock.pass(60_000)));
  assert.deepEqual([first.client.state, second.client.state], ["replaced", "online"]);
  assert.deepEqual([first.sockets.all.length, second.sockets.all.length], [1, 1]);
  await second.closed();
});

test("errors of a send reject it, and other errors are reported", async () => {
  const world = await World.online();
  const sent = world.client.sendToUser("ben?", "hi");
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ERROR", code: "bad_request", message: "receiverId: alphabet", requestId });
  await assert.rejects(sent, { name: "ChatError", code: "bad_request", message: "receiverId: alphabet" });
  assert.deepEqual(world.codes, []);
  world.sockets.last.say({ type: "ERROR", code: "novel", message: "of a later server" });
  assert.deepEqual(world.errors.map(({ code, message: text }) => [code, text]), [["novel", "of a later server"]]);
});

test("a notification is given at once, and errors of its handler are reported", async () => {
  const world: World = new World({
    onNotification: (one) => {
      world.notifications.push(one);
      throw new Error("no");
    },
  });
  const notification = { type: "NOTIFICATION", notificationType: "order", content: 1, more: true };
  world.client.connect();
  await world.dialled();
  await world.opened();
  world.sockets.last.say(notification);
  assert.deepEqual(world.notifications, [notification]);
  assert.deepEqual(world.codes, ["handler"]);
});

test("an error of onState is reported and stops nothing", async () => {
  const world = new World({ onState: () => { throw new Error("no"); } });
  await world.connected();
  await world.reconnected();
  assert.equal(world.client.state, "online");
  assert.equal(world.codes.filter((code) => code === "handler").length, 7);
});

test("an error of onError is uncaught and stops nothing", async (context) => {
  const uncaught: unknown[] = [];
  context.mock.method(globalThis, "setTimeout", (task: () => void) => {
    assert.throws(task, (thrown) => uncaught.push(thrown) > 0);
  });
  const trouble = new Error("no");
  const world = await World.online({ onError: () => { throw trouble; } });
  await world.reconnected();
  assert.equal(world.client.state, "online");
  assert.deepEqual(uncaught, [trouble]);
});

// The limit of sends.

test("a send beyond the limit waits, and the application is told once", async () => {
  const world = await World.online();
  const sends = [world.client.sendToUser("ann", 1), world.client.sendToUser("cara", 2)];
  const before = world.sockets.last.requests;
  assert.equal(world.client.limitedUntil, undefined);
  for (const { requestId } of before) {
    world.sockets.last.say({ type: "ERROR", code: "rate_limited", message: "no", requestId, retryAfterMs: 30_000 });
  }
  assert.deepEqual(world.errors.map(({ code, retryAfterMs }) => [code, retryAfterMs]), [["rate_limited", 30_000]]);
  assert.equal(world.client.limitedUntil, world.clock.now() + 30_500);
  assert.deepEqual([world.client.state, world.client.unsent], ["online", 2]);
  world.client.typing("ann");
  await world.clock.pass(30_499);
  assert.deepEqual(world.sockets.last.sent, before, "no signal is sent either");
  await world.clock.pass(1);
  for (const n of [2, 3]) {
    const { requestId } = world.sockets.last.requests[n]!;
    world.sockets.last.say({ type: "ACK", requestId, id: String(n), timestamp: EPOCH_MS });
  }
  await Promise.all(sends);
  assert.deepEqual(world.sockets.last.requests, [...before, ...before]);
  assert.equal(world.client.limitedUntil, undefined);
  await assertOver(world);
});

test("a REST call beyond the limit rejects, and sends wait too", async () => {
  const world = await World.online();
  world.instead = (line) => {
    const json = { detail: "no", code: "rate_limited", retryAfterMs: 1_500 };
    return line.startsWith("PUT") ? { status: 429, json, headers: { "retry-after": "2" } } : undefined;
  };
  const refused = { name: "ChatError", code: "rate_limited", status: 429, retryAfterMs: 1_500 };
  await assert.rejects(world.client.api.markRead({ userId: "ann" }, idOf(1)), refused);
  assert.deepEqual(world.codes, ["rate_limited"]);
  void world.client.sendToUser("ann", 1).catch(() => {});
  await world.clock.pass(1_999);
  assert.deepEqual(world.sockets.last.requests, []);
  await world.clock.pass(1);
  assert.equal(world.sockets.last.requests.length, 1);
  await world.closed();
  await assert.rejects(world.client.api.markRead({ userId: "ann" }, idOf(1)), refused);
  assert.equal(world.clock.pending, 0, "a closed client has no timer");
});

test("a send by REST beyond the limit is repeated, and the application is told", async () => {
  const world = new World();
  const problem = { detail: "no", code: "rate_limited", retryAfterMs: 1_500 };
  world.accept = () => ({ status: 429, json: problem });
  const sent = world.client.sendByRest({ receiverId: "ann" }, 1);
  await settle();
  assert.deepEqual(world.codes, ["rate_limited"]);
  world.accept = () => ({ json: RECEIPT });
  await world.clock.pass(2_000);
  assert.deepEqual(await sent, RECEIPT);
});

// A ban.

const UNTIL = EPOCH_MS + 3_600_000;
const BAN = { type: "ERROR", code: "banned", message: "you are banned", until: UNTIL };
const BANNED = { name: "ChatError", code: "banned", message: BAN.message, until: UNTIL };
const FORBIDDEN = { status: 403, json: { detail: BAN.message, code: "banned", until: UNTIL } };

/** A client whose user was banned while it was online. */
async function banned(options?: Partial<ClientOptions>): Promise<World> {
  const world = await World.online(options);
  world.sockets.last.say(BAN);
  world.sockets.last.end(1000);
  return world;
}

/** Asserts that the client is banned, has said so once, and does nothing more. */
async function assertBanned(world: World): Promise<void> {
  assert.equal(world.client.state, "banned");
  assert.equal(world.states.filter((state) => state === "banned").length, 1);
  const told = world.errors.filter(({ code }) => code === "banned");
  assert.deepEqual(told.map(({ message: text, until }) => [text, until]), [[BAN.message, UNTIL]]);
  assert.equal(world.client.bannedUntil, UNTIL);
  assert.equal(world.clock.pending, 0);
  const calls = world.server.requests.length + world.sockets.all.length + world.tokens;
  world.client.checkNow();
  await world.clock.pass(7_200_000);
  assert.equal(world.server.requests.length + world.sockets.all.length + world.tokens, calls);
  assert.equal(world.client.state, "banned");
}

test("a banned client says until when, and does not connect again by itself", async () => {
  const world = await banned();
  assert.deepEqual(world.states.slice(-2), ["online", "banned"]);
  assert.deepEqual(world.codes, ["banned"]);
  assert.notEqual(world.sockets.last.closedWith, undefined);
  await assertBanned(world);
});

test("a ban rejects all sends, also later ones, and sends nothing more", async () => {
  const world = await World.online();
  const sends = [1, 2, 3].map((n) => world.client.sendToUser(n < 3 ? "ann" : "cara", n));
  const rejections = sends.map((sent) => assert.rejects(sent, BANNED));
  const before = world.sockets.last.requests;
  world.sockets.last.say({ ...BAN, requestId: before[0]!["requestId"] });
  await Promise.all(rejections);
  assert.deepEqual(world.sockets.last.requests, before);
  assert.equal(world.client.unsent, 0);
  await assert.rejects(world.client.sendToUser("ann", 4), BANNED);
  await assert.rejects(world.client.sendToGroup("g", 5), BANNED);
  await assertBanned(world);
});

test("a refused handshake is explained by a pull, which reads nothing", async () => {
  const world = new World();
  world.instead = () => FORBIDDEN;
  const refused = assert.rejects(world.client.sendToUser("ann", 1), BANNED);
  world.client.connect();
  await world.dialled();
  world.sockets.last.end();
  await refused;
  assert.deepEqual(world.asked(), ["GET after=7ZZZZZZZZZ0000000000000000"]);
  assert.deepEqual(world.states, ["connecting", "waiting", "banned"]);
  assert.deepEqual(world.codes, ["network", "banned"]);
  await assertBanned(world);
});

test("handshakes that fail for another reason are repeated, and one question at a time is asked", async () => {
  const world = new World();
  const answer = new Later<FakeAnswer>();
  world.instead = () => answer.promise;
  world.client.connect();
  await world.dialled();
  for (let n = 0; n < 3; n++) {
    world.sockets.last.end();
    await world.clock.pass(2_000);
  }
  assert.deepEqual([world.sockets.all.length, world.asked().length], [4, 1]);
  answer.resolve({ status: 403 });
  await settle();
  world.sockets.last.end();
  await world.clock.pass(4_000);
  assert.deepEqual([world.sockets.all.length, world.asked().length], [5, 1]);
  assert.deepEqual(new Set(world.codes), new Set(["network", "forbidden"]));
  world.instead = () => undefined;
  await world.opened();
  assert.equal(world.client.state, "online");
  await world.reconnected();
  assert(!world.asked().includes("GET after=7ZZZZZZZZZ0000000000000000"), "a connection that was open has ended");
});

test("the pull after connecting tells of a ban", async () => {
  const world = new World();
  world.instead = () => FORBIDDEN;
  await world.connected();
  assert.deepEqual(world.states, ["connecting", "catching_up", "banned"]);
  assert.deepEqual(world.codes, ["banned"]);
  assert.equal(world.asked().length, 1);
  assert.notEqual(world.sockets.last.closedWith, undefined);
  await assertBanned(world);
});

for (const method of ["GET", "DELETE"]) {
  test(`a later pull tells of a ban (${method})`, async () => {
    const world = await World.online();
    world.missed = world.log = [message(1)];
    world.instead = (line) => (line.startsWith(method) ? FORBIDDEN : undefined);
    await world.clock.pass(TIMING.settleMs);
    await assertBanned(world);
  });
}

test("any REST call tells of a ban, whatever the client does", async () => {
  for (const state of ["idle", "connecting", "online", "waiting", "replaced"] as const) {
    const token = new Later<string>();
    const world = state === "connecting" ? new World({ token: () => token.promise }) : new World();
    if (state === "connecting") world.client.connect();
    else if (state !== "idle") await world.connected();
    if (state === "waiting") world.sockets.last.end();
    if (state === "replaced") world.sockets.last.say(TOO_MANY);
    assert.equal(world.client.state, state);
    world.instead = () => FORBIDDEN;
    const calls = [world.client.api.groups(), world.client.sendByRest({ receiverId: "ann" }, 1)];
    const rejections = calls.map((call) => assert.rejects(call, { ...BANNED, status: 403 }));
    token.resolve("t");
    await Promise.all(rejections);
    await settle();
    await assertBanned(world);
    await world.closed();
  }
});

test("a banned client connects when told, and stays connected after the ban", async () => {
  const world = await banned();
  world.instead = () => FORBIDDEN;
  world.client.connect();
  world.client.connect();
  assert.deepEqual([world.client.state, world.client.bannedUntil], ["connecting", undefined]);
  await world.dialled();
  world.sockets.last.end();
  await settle();
  assert.deepEqual([world.client.state, world.client.bannedUntil], ["banned", UNTIL]);
  world.instead = () => undefined;
  world.client.connect();
  const sent = world.client.sendToUser("ann", "hi");
  await world.dialled();
  await world.opened();
  assert.equal(world.client.state, "online");
  assert.equal(world.sockets.all.length, 3);
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ACK", requestId, id: "1", timestamp: EPOCH_MS });
  await sent;
  await world.reconnected();
  assert.equal(world.client.state, "online");
  await world.closed();
});

for (const comes of [true, false]) {
  test(`a ban while a token is requested ends the attempt (${comes ? "it comes" : "it does not come"})`, async () => {
    const token = new Later<string>();
    let asked = 0;
    const world = new World({ token: () => (asked++ === 0 ? "t0" : token.promise) });
    const answer = new Later<FakeAnswer>();
    world.instead = () => answer.promise;
    const call = assert.rejects(world.client.api.groups(), BANNED);
    await settle();
    world.client.connect();
    answer.resolve(FORBIDDEN);
    await call;
    if (comes) token.resolve("t");
    else token.reject(new Error("the host is away"));
    await settle();
    assert.deepEqual([world.sockets.all.length, world.codes], [0, ["banned"]]);
    await assertBanned(world);
  });
}

test("a ban while a token is requested opens no connection, and connect opens one", async () => {
  const tokens = [new Later<string>(), new Later<string>()];
  let asked = 0;
  const world = new World({ token: () => (asked++ === 0 ? "t0" : tokens[asked - 2]!.promise) });
  const answer = new Later<FakeAnswer>();
  world.instead = () => answer.promise;
  const call = assert.rejects(world.client.api.groups(), BANNED);
  await settle();
  world.client.connect();
  answer.resolve(FORBIDDEN);
  await call;
  assert.deepEqual(world.states, ["connecting", "banned"]);
  world.instead = () => undefined;
  world.client.connect();
  for (const token of tokens) token.resolve("t");
  await settle();
  assert.equal(world.sockets.all.length, 1);
  await world.opened();
  assert.equal(world.client.state, "online");
  await world.closed();
});

// Version 2.

test("version 1 can be chosen: its subprotocol, and no recalls and signals", async () => {
  const world = await World.online({ version: 1 });
  assert.deepEqual(world.sockets.last.protocols, ["chat", "t1"]);
  world.client.typing("ben");
  assert.deepEqual(world.sockets.last.sent, []);
  await world.reconnected();
  assert(world.server.lines.some((line) => line.includes("since")));
  assert(world.server.lines.every((line) => !line.includes("version")), "no recalls are asked for");
});

/** The n-th message, which Ben has sent to Ann. */
function own(n: number, content = `m${n}`): PrivateMessage {
  return { ...message(n, content), senderId: "ben", receiverId: "ann" };
}

test("an own message of another device is given once", async () => {
  const world = await World.online();
  await world.push(own(1), own(1), message(2));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(1), message(2)]);
  await world.reconnected();
  await world.push(own(1));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(1), message(2)]);
});

test("a message that this client has sent is not given after its acknowledgement", async () => {
  const world = await World.online();
  const sent = world.client.sendToUser("ann", "m1");
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ACK", requestId, id: idOf(1), timestamp: EPOCH_MS });
  await world.push(own(1), own(2, "m1"));
  await sent;
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(2, "m1")]);
});

test("on the next connection, an echo before the acknowledgement is not given", async () => {
  const world = await World.online();
  const sent = world.client.sendToUser("ann", { a: 1 });
  const { requestId } = world.sockets.last.requests[0]!;
  await world.reconnected();
  const echo = { ...own(1), content: { a: 1 } };
  const alike = { ...own(2), content: { a: 1 } };
  await world.push(echo, alike, own(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(3)], "which of the two is the echo is not known yet");
  world.sockets.last.say({ type: "ACK", requestId, id: idOf(1), timestamp: EPOCH_MS });
  await sent;
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(3), alike]);
});

test("a message of a send that was given up is given", async () => {
  const world = await World.online({ timing: { idempotentMs: 1_000 } });
  const refused = assert.rejects(world.client.sendToUser("ann", "m1"), { code: "unacknowledged" });
  await world.push(own(1));
  await world.clock.pass(1_000);
  await refused;
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(world.given, [own(1)]);
});

test("a message that equals a send without a result is given at the close", async () => {
  const world = await World.online();
  const refused = assert.rejects(world.client.sendToUser("ann", "m1"), { code: "closed" });
  await world.push(own(1));
  await world.closed();
  await refused;
  assert.deepEqual(world.given, [own(1)]);
  assert.equal(world.clock.pending, 0);
});

test("a recall is given once, and its message is ignored later", async () => {
  const world = await World.online();
  await world.push(message(1));
  await world.clock.pass(TIMING.orderMs);
  await world.push(message(2), recall(1, 5), recall(2, 6), recall(2, 6), message(2), recall(3, 7));
  await world.clock.pass(TIMING.orderMs);
  await world.push(message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), [1]);
  assert.deepEqual(world.recalled, [recall(1, 5), recall(2, 6), recall(3, 7)]);
});

test("after a reconnection recalls come in their places, by version=2", async () => {
  const story: string[] = [];
  const world = await World.online({
    onMessage: ({ id }) => void story.push(`give ${id}`),
    onRecalled: ({ id }) => void story.push(`recall ${id}`),
  });
  await world.push(message(1));
  world.log.push(message(2), recall(1, 3), message(4));
  await world.reconnected();
  assert.deepEqual(story, [`give ${idOf(1)}`, `give ${idOf(2)}`, `recall ${idOf(1)}`, `give ${idOf(4)}`]);
  assert(world.server.lines.some((line) => /since=\S+ version=2$/.test(line)));
  await world.reconnected();
  assert.equal(story.length, 4);
});

test("a recall that the application rejects is given again, and later messages wait", async () => {
  let troubles = 1;
  const world: World = new World({
    onRecalled: (one) => {
      if (troubles-- > 0) throw new Error("no room");
      world.recalled.push(one);
    },
  });
  await world.connected();
  await world.push(recall(1, 2), message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual([world.recalled.length, world.given.length], [0, 0]);
  await world.clock.pass(500);
  assert.deepEqual([world.recalled, world.given], [[recall(1, 2)], [message(3)]]);
  assert.deepEqual(world.codes, ["handler"]);
});

test("a message that is recalled while it waits for the application is not given", async () => {
  const first = new Later<void>();
  const world: World = new World({ onMessage: (one) => (world.given.push(one), first.promise) });
  await world.connected();
  await world.push(message(1), message(2));
  await world.clock.pass(TIMING.orderMs);
  await world.push(recall(2, 3));
  first.resolve();
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual([numbers(world.given), world.recalled], [[1], [recall(2, 3)]]);
});

test("without onRecalled, a recall only hides its message", async () => {
  const options: Partial<ClientOptions> = {};
  const world = await World.online(Object.assign(options, { onRecalled: undefined }) as typeof options);
  await world.push(message(1), recall(1, 2), message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), [3]);
  assert.deepEqual(world.codes, []);
});

test("signals are given at once, and errors of their handlers are reported", async () => {
  const given: unknown[] = [];
  const take = (signal: unknown): void => {
    given.push(signal);
    throw new Error("no");
  };
  const world = await World.online({ onRead: take, onTyping: take, onInvitation: take, onGroup: take });
  const signals = [
    { type: "READ", readerId: "ann", userId: "ann", until: idOf(1) },
    { type: "TYPING", senderId: "ann" },
    { type: "INVITATION", id: "i", groupName: "Team", groupId: "g", userId: "ben", invitedBy: "ann" },
    { type: "GROUP", groupId: "g", event: "renamed", name: "Group" },
  ];
  for (const signal of signals) world.sockets.last.say(signal);
  assert.deepEqual(given, signals);
  assert.deepEqual(world.codes, Array(4).fill("handler"));
});

test("typing is told once in a while, and never later than it happened", async () => {
  const world = new World();
  world.client.typing("ann");
  await world.connected();
  assert.deepEqual(world.sockets.last.sent, [], "it was not queued");
  for (const to of ["ann", "ann", "cara"]) world.client.typing(to);
  const frames = ["ann", "cara"].map((receiverId) => ({ type: "typing", receiverId }));
  assert.deepEqual(world.sockets.last.sent, frames);
  world.sockets.last.end();
  world.client.typing("dan");
  await world.clock.pass(500);
  await world.opened();
  assert.deepEqual(world.sockets.last.sent, []);
  world.client.typing("dan");
  assert.deepEqual(world.sockets.last.sent, [{ type: "typing", receiverId: "dan" }]);
});

test("a muted send is refused for good, and its error says until when", async () => {
  const world = await World.online();
  const sent = world.client.sendToGroup("g", "hi");
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ERROR", code: "muted", message: "muted", requestId, until: EPOCH_MS });
  await assert.rejects(sent, { name: "ChatError", code: "muted", until: EPOCH_MS });
  await world.reconnected();
  assert.deepEqual(world.sockets.last.requests, []);
});

// Sends by REST.

const RECEIPT = { id: idOf(1), timestamp: EPOCH_MS };

test("a send by REST needs no connection", async () => {
  const world = new World();
  world.accept = () => ({ json: RECEIPT });
  assert.deepEqual(await world.client.sendByRest({ groupId: "g" }, "m1", { requestId: "r" }), RECEIPT);
  assert.deepEqual(world.server.lines, ["POST /api/message"]);
  const [{ body }] = world.server.requests as [FakeRequest];
  assert.deepEqual(body, { type: "multicast", groupId: "g", content: "m1", requestId: "r" });
  assert.deepEqual([world.sockets.all.length, world.clock.pending], [0, 0]);
});

test("the echo of a send by REST is not given, whether it comes before or after the answer", async () => {
  const world = await World.online();
  const answer = new Later<FakeAnswer>();
  world.accept = () => answer.promise;
  const sent = world.client.sendByRest({ receiverId: "ann" }, "m1");
  await world.push(own(1));
  await world.clock.pass(TIMING.orderMs);
  answer.resolve({ json: RECEIPT });
  await sent;
  await world.push(own(1), message(2));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual(numbers(world.given), [2]);
});

test("a content that is not JSON is refused before sending", async () => {
  const world = await World.online();
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const refused = { name: "ChatError", code: "bad_request" };
  await assert.rejects(world.client.sendByRest({ receiverId: "ann" }, circle as Content), refused);
  await assert.rejects(world.client.sendToUser("ann", circle as Content), refused);
  assert(world.server.lines.every((line) => !line.startsWith("POST")));
});

test("a send by REST rejects at the close", async () => {
  const world = await World.online();
  world.accept = () => new Later<FakeAnswer>().promise;
  const refused = assert.rejects(world.client.sendByRest({ receiverId: "ann" }, 1), { code: "closed" });
  await settle();
  await assertOver(world);
  await refused;
  await assert.rejects(world.client.sendByRest({ receiverId: "ann" }, 1), { code: "closed" });
});

// The start of a resumption.

const DATE_MS = Date.UTC(2025, 5, 17, 10);
const since = (world: World) => world.asked().find((line) => line.includes("since"))?.split("=")[1];

test("a resumption begins at the client's start by the server's clock", async () => {
  const world = new World();
  world.instead = () => ({ ...page([]), headers: { date: new Date(DATE_MS).toUTCString() } });
  world.client.connect();
  await settle();
  await world.clock.pass(3_000);
  await world.opened();
  await world.reconnected();
  assert.equal(since(world), idOf(DATE_MS - 3_000 - 2_000 - EPOCH_MS));
});

for (const [name, frame] of [
  ["an acknowledgement", { type: "ACK", requestId: "r", id: "1", timestamp: DATE_MS }],
  ["a message", { ...message(1), timestamp: DATE_MS }],
] as const) {
  test(`${name} sets the start of a resumption if no answer does`, async () => {
    const world = await World.online();
    await world.clock.pass(1_000);
    world.sockets.last.say(frame);
    world.sockets.last.end();
    world.client.checkNow();
    await settle();
    await world.opened();
    assert.equal(since(world), idOf(DATE_MS - 1_000 - 2_000 - EPOCH_MS));
  });
}

test("without a server time a resumption begins a minute before the client's start", async () => {
  const world = await World.online();
  await world.reconnected();
  assert.equal(since(world), idOf(-60_000));
});

test("a later resumption begins where the last one ended", async () => {
  const world = await World.online();
  await world.push(message(500_000));
  await world.clock.pass(100);
  await world.reconnected();
  assert.equal(since(world), idOf(500_000 - TIMING.overlapMs));
});

test("stored messages start the resumption and are not given again", async () => {
  const world = new World({ stored: [idOf(100), idOf(120)] });
  world.log = [60, 80, 100, 110, 120, 130].map((n) => message(n));
  await world.connected();
  assert.deepEqual(world.asked(), ["GET", `GET since=${idOf(70)}`]);
  assert.deepEqual(numbers(world.given), [80, 110, 130]);
});

test("without stored messages the first connection does not resume", async () => {
  const world = await World.online({ stored: [] });
  assert.deepEqual(world.asked(), ["GET"]);
});

// Checking now.

test("checkNow ends the wait once", async () => {
  const world: World = new World({ onState: (state) => state === "waiting" && world.client.checkNow() });
  await world.connected();
  world.sockets.last.end();
  world.client.checkNow();
  await world.clock.pass(10_000);
  assert.equal(world.sockets.all.length, 2);
});

test("checkNow probes an open connection", async () => {
  const world = await World.online();
  world.client.checkNow();
  assert.equal(world.sockets.last.probes, 1);
  await world.clock.pass(10_000);
  assert.equal(world.client.state, "waiting");
});

test("the online event of a browser triggers checkNow", async (context) => {
  const events = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"] as const) {
    const listen: unknown = events[name].bind(events);
    Object.assign(globalThis, { [name]: listen });
    context.after(() => Reflect.deleteProperty(globalThis, name));
  }
  const world = await World.online();
  events.dispatchEvent(new Event("online"));
  assert.equal(world.sockets.last.probes, 1);
  await world.closed();
  world.sockets.last.readyState = 1;
  events.dispatchEvent(new Event("online"));
  assert.equal(world.sockets.last.probes, 1);
});

// Closing.

/** Asserts that the client is closed and that nothing runs: no timer, no call, no socket. */
async function assertOver(world: World): Promise<void> {
  const closed = world.closed();
  assert.equal(world.client.state, "closed");
  await closed;
  await settle();
  assert.equal(world.clock.pending, 0);
  const calls = world.server.requests.length + world.sockets.all.length + world.tokens;
  await world.clock.pass(3_600_000);
  assert.equal(world.server.requests.length + world.sockets.all.length + world.tokens, calls);
  assert(world.sockets.all.every(({ closedWith, readyState }) => closedWith !== undefined || readyState === 3));
  assert.equal(world.states.at(-1), "closed");
}

test("a client closed before connect connects later", async () => {
  const world = new World();
  await assertOver(world);
  await world.connected();
  assert.equal(world.client.state, "online");
  await assertOver(world);
});

test("a client connects after close, as under StrictMode", async () => {
  const world = new World();
  world.client.connect();
  const closed = world.client.close();
  world.client.connect();
  await closed;
  await world.dialled();
  await world.opened();
  assert.equal(world.sockets.all.length, 1);
  assert.deepEqual(world.states, ["connecting", "closed", "connecting", "catching_up", "online"]);
  assert.notEqual(world.client.close(), closed);
  await assertOver(world);
});

test("after close and connect, nothing is lost and nothing comes twice", async () => {
  const world = await World.online();
  await world.push(message(1));
  const old = world.sockets.last;
  await world.closed();
  const sent = world.client.sendToUser("ann", "too early");
  await assert.rejects(sent, { code: "closed" });
  world.log.push(message(1), message(2));
  old.say(message(9));
  await world.connected();
  assert.deepEqual(numbers(world.given), [1, 2]);
  const send = world.client.sendToUser("ann", "now");
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ACK", requestId, id: idOf(3), timestamp: EPOCH_MS });
  assert.equal((await send).id, idOf(3));
  await assertOver(world);
});

test("a message that the application refused until close comes again after connect", async () => {
  let refuses = true;
  const given: Message[] = [];
  const world = await World.online({
    onMessage: (one) => {
      if (refuses) throw new Error("not yet");
      given.push(one);
    },
  });
  await world.push(message(1));
  await world.push(message(2));
  await world.closed();
  refuses = false;
  world.log.push(message(1), message(2));
  await world.connected();
  assert.deepEqual(numbers(given), [1, 2]);
  await assertOver(world);
});

test("a send that was refused by close does not end the hold of the same content later", async () => {
  const world = await World.online();
  const first = world.client.sendToUser("ann", "same");
  void world.client.close();
  world.client.connect();
  const second = world.client.sendToUser("ann", "same");
  await assert.rejects(first, { code: "closed" });
  await world.dialled();
  await world.opened();
  const own = { ...message(5, "same"), senderId: "ben", receiverId: "ann" };
  world.sockets.last.say(own);
  await world.clock.pass(1_000);
  const { requestId } = world.sockets.last.requests[0]!;
  world.sockets.last.say({ type: "ACK", requestId, id: own.id, timestamp: own.timestamp });
  await second;
  await world.clock.pass(1_000);
  assert.deepEqual(world.given, []);
  await world.closed();
});

test("listeners get what the callback gets, and end with off", async () => {
  const world = new World();
  const [a, b]: [Message[], Message[]] = [[], []];
  const states: State[] = [];
  const toB = (one: Message) => void b.push(one);
  const endA = world.client.on("message", (one) => void a.push(one));
  world.client.on("message", toB);
  world.client.on("state", (state) => void states.push(state));
  await world.connected();
  await world.push(message(1));
  await world.clock.pass(TIMING.orderMs);
  endA();
  await world.push(message(2));
  await world.clock.pass(TIMING.orderMs);
  world.client.off("message", toB);
  await world.push(message(3));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual([numbers(world.given), numbers(a), numbers(b)], [[1, 2, 3], [1], [1, 2]]);
  assert.deepEqual(states, world.states);
  await world.closed();
});

test("a message is given again only to the listener that threw", async () => {
  const world = new World();
  let failures = 2;
  const later: Message[] = [];
  world.client.on("message", () => {
    if (failures-- > 0) throw new Error("not yet");
  });
  world.client.on("message", (one) => void later.push(one));
  await world.connected();
  await world.push(message(1));
  await world.clock.pass(2_000);
  await world.push(message(2));
  await world.clock.pass(TIMING.orderMs);
  assert.deepEqual([numbers(world.given), numbers(later)], [[1, 2], [1, 2]]);
  assert.deepEqual(world.codes, ["handler", "handler"]);
  assert.equal(failures, -2);
  await world.closed();
});

test("a listener that throws does not stop the others", async () => {
  const world = await World.online();
  const seen: string[] = [];
  world.client.on("notification", () => {
    throw new Error("no");
  });
  world.client.on("notification", ({ notificationType }) => void seen.push(notificationType));
  world.sockets.last.say({ type: "NOTIFICATION", notificationType: "sale", content: 1 });
  assert.deepEqual([seen, world.codes], [["sale"], ["handler"]]);
  await world.closed();
});

test("debug says what the client does, without tokens and contents", async () => {
  const lines: string[] = [];
  const world = await World.online({ debug: (line) => lines.push(line), token: () => "SECRET-TOKEN" });
  const send = world.client.sendToUser("ann", { text: "SECRET-CONTENT" }, { requestId: "r1" });
  world.sockets.last.say({ type: "ACK", requestId: "r1", id: idOf(1), timestamp: EPOCH_MS });
  await send;
  await world.push(message(2, "SECRET-CONTENT"));
  world.sockets.last.end();
  await world.closed();
  const text = lines.join("\n");
  for (const part of ["is connecting", "GET /api/message: status 200", '"requestId":"r1"', '"type":"ACK"', "connects again in", "is closed"]) {
    assert(text.includes(part), `${part}: ${text}`);
  }
  assert(!text.includes("SECRET"), text);
});

/** A client to which more messages were pushed than may wait. Its application takes none before `taken` is resolved. */
async function flooded(): Promise<{ world: World; taken: Later<void> }> {
  const taken = new Later<void>();
  const world: World = await World.online({
    timing: { orderMs: 0 },
    onMessage: async (one) => (await taken.promise, void world.given.push(one)),
  });
  world.log = Array.from({ length: 6_000 }, (_, n) => message(n + 1));
  for (const one of world.log) world.sockets.last.say(one);
  return { world, taken };
}

test("if the application takes too little, later messages are read again, and sends have results meanwhile", async () => {
  const { world, taken } = await flooded();
  const socket = world.sockets.last;
  const sent = world.client.sendToUser("ben", "hi");
  await settle();
  const { requestId } = socket.sent.at(-1)!;
  socket.say({ type: "ACK", requestId, id: idOf(7_000), timestamp: EPOCH_MS });
  assert.equal((await sent).id, idOf(7_000));
  assert.deepEqual([world.sockets.all.length, world.errors], [1, []]);
  taken.resolve();
  await until(() => world.given.length === 6_000);
  assert.deepEqual(numbers(world.given), numbers(world.log));
  await world.push(message(6_001));
  assert.equal(world.given.length, 6_001);
  await world.closed();
});

test("what is left out is read by the next connection, if this one ends", async () => {
  const { world, taken } = await flooded();
  await world.reconnected();
  taken.resolve();
  await until(() => world.given.length === 6_000);
  assert.deepEqual(numbers(world.given), numbers(world.log));
  await world.closed();
});

test("a page that the application refused before a close is not dropped, even if fetch ignores signals", async () => {
  const refused = new Later<void>();
  const server: { fetch?: typeof fetch } = {};
  const world = new World({
    onMessage: () => refused.promise,
    fetch: (input, init) => server.fetch!(input, { ...init, signal: new AbortController().signal }),
  });
  server.fetch = world.server.fetch;
  world.missed = [message(1)];
  await world.connected();
  const closed = world.closed();
  refused.reject(new Error("no"));
  await closed;
  await settle();
  assert.deepEqual(numbers(world.missed), [1]);
  assert(!world.server.lines.some((line) => line.startsWith("DELETE")), world.server.lines.join());
});

test("a pushed message does not overtake the rest of a page while the application is slow", async () => {
  const world: World = new World({
    timing: { holdMs: 100 },
    onMessage: (one) => new Promise((resolve) => world.clock.after(20, () => (world.given.push(one), resolve()))),
  });
  world.missed = Array.from({ length: 30 }, (_, n) => message(n + 1));
  await world.connected();
  world.sockets.last.say(message(99));
  while (world.given.length < 31) await world.clock.pass(20);
  assert.deepEqual(numbers(world.given), [...numbers(world.missed), ...Array.from({ length: 30 }, (_, n) => n + 1), 99]);
  await world.closed();
});

test("why a message of the store is refused is told", async () => {
  const unsent = { requestId: "old", to: { receiverId: "ben" }, content: "hi", at: EPOCH_MS };
  const kept = new Map([["old", unsent]]);
  const world = await World.online({
    store: {
      unsent: async () => [...kept.values()],
      keep: async () => {},
      tried: async () => EPOCH_MS,
      forget: async (requestId: string) => void kept.delete(requestId),
      get: async () => undefined,
      set: async () => {},
      clear: async () => {},
    },
  });
  await until(() => world.sockets.last.sent.some(({ requestId }) => requestId === "old"));
  world.sockets.last.say({ type: "ERROR", code: "muted", message: "the manager has muted you", requestId: "old" });
  await until(() => world.codes.includes("muted"));
  await settle();
  assert.equal(kept.size, 0);
  await world.closed();
});

for (const requestId of [null, 5, {}]) {
  test(`a requestId that is ${JSON.stringify(requestId)} is refused, and nothing is sent`, async () => {
    const world = await World.online();
    const sent = world.client.sendToUser("ben", "hi", { requestId: requestId as unknown as string });
    await assert.rejects(sent, { code: "bad_request", message: /requestId/ });
    assert.deepEqual(world.sockets.last.sent, []);
    await world.closed();
  });
}

test("a close settles although onMessage refuses and the client is connected again", async () => {
  const refused = new Later<void>();
  const world = await World.online({ timing: { orderMs: 0 }, onMessage: () => refused.promise });
  await world.push(message(1));
  const closed = world.closed();
  world.client.connect();
  refused.reject(new Error("no"));
  await closed;
  await world.closed();
});

// Why nothing connects.

for (const [what, answer, code, text] of [
  ["a refused token", { status: 401, json: { detail: "it has expired" } }, "unauthorized", /refuses the token: it has/],
  ["an address of something else", { status: 404, text: "<html>" }, "address", /is no chat server: check the option url/],
  ["a page instead of an answer", { text: "<html>" }, "address", /chat\.example\.com is no chat server/],
] as const) {
  test(`${what} is told once`, async () => {
    const world = new World();
    world.instead = () => answer;
    world.client.connect();
    for (let n = 0; n < 4; n++) {
      await world.dialled();
      world.sockets.last.end();
      await world.clock.pass(10_000);
    }
    const told = world.errors.filter((error) => error.code === code);
    assert.equal(told.length, 1, world.codes.join());
    assert.match(told[0]!.message, text);
    await world.closed();
  });
}

test("an address without an answer is told", async () => {
  const world = new World();
  world.instead = () => Promise.reject(new TypeError("fetch failed"));
  world.client.connect();
  await world.dialled();
  world.sockets.last.end();
  await settle();
  assert.match(world.errors.map(({ message }) => message).join(), /chat\.example\.com does not answer/);
  await world.closed();
});

test("an option without sense is refused at once", () => {
  const options = { url: "https://chat.example.com", webSocket: new FakeSockets().constructorFor };
  assert.throws(() => new ChatClient({ ...options } as unknown as ClientOptions), /option token/);
  assert.throws(() => new ChatClient({ ...options, url: "chat.example.com", token: () => "t" }), /http or https/);
});

test("a page that is shown again looks whether a silent connection is alive", async (context) => {
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  Object.assign(globalThis, { document: page });
  context.after(() => delete (globalThis as { document?: unknown }).document);
  const show = () => page.dispatchEvent(new Event("visibilitychange"));
  const world = await World.online();
  await world.clock.pass(59_000);
  show();
  assert.equal(world.sockets.last.probes, 0, "it was heard a moment ago");
  await world.clock.pass(1_000);
  page.visibilityState = "hidden";
  show();
  assert.equal(world.sockets.last.probes, 0, "it is hidden");
  page.visibilityState = "visible";
  show();
  assert.equal(world.sockets.last.probes, 1);
  world.sockets.last.end();
  assert.equal(world.client.state, "waiting");
  show();
  assert.equal(world.client.state, "connecting");
  await world.closed();
});

test("a client closed while it requests a token opens no connection", async () => {
  const token = new Later<string>();
  const world = new World({ token: () => token.promise });
  world.client.connect();
  await settle();
  await assertOver(world);
  token.resolve("t");
  await settle();
  assert.equal(world.sockets.all.length, 0);
});

test("closing while a token never comes leaves nothing", async () => {
  const world = new World({ token: () => Promise.reject(new Error("late")) });
  world.client.connect();
  await assertOver(world);
  assert.deepEqual(world.codes, []);
});

test("closing while connecting ends the handshake", async () => {
  const world = new World();
  world.client.connect();
  await world.dialled();
  await assertOver(world);
  assert.equal(world.sockets.last.closedWith, 1000);
});

test("closing while waiting prevents the next attempt", async () => {
  const world = await World.online();
  world.sockets.last.end();
  await assertOver(world);
});

test("closing while replaced leaves nothing", async () => assertOver(await replaced()));

test("closing while banned leaves nothing", async () => {
  const world = await banned();
  world.instead = () => FORBIDDEN;
  await assertOver(world);
  await assert.rejects(world.client.api.groups(), BANNED);
  assert.deepEqual(world.codes, ["banned"]);
  await assert.rejects(world.client.sendToUser("ann", 1), { code: "closed" });
});

test("closing while a failed handshake is reported asks for no ban", async () => {
  const world: World = new World({ onError: () => void world.client.close() });
  world.client.connect();
  await world.dialled();
  world.sockets.last.end();
  await assertOver(world);
  assert.deepEqual(world.asked(), []);
});

test("closing while it asks for a ban leaves nothing", async () => {
  const world = new World();
  world.instead = () => new Later<FakeAnswer>().promise;
  world.client.connect();
  await world.dialled();
  world.sockets.last.end();
  await settle();
  assert.equal(world.asked().length, 1);
  await assertOver(world);
});

test("closing while catching up drops nothing and gives nothing more", async () => {
  const world = new World();
  world.missed = [message(1)];
  const answer = new Later<FakeAnswer>();
  world.instead = () => answer.promise;
  await world.connected();
  await assertOver(world);
  answer.resolve(page(world.missed));
  await settle();
  assert.deepEqual(world.asked(), ["GET"]);
  assert.deepEqual(numbers(world.given), []);
});

test("closing while online leaves nothing", async () => assertOver(await World.online()));

for (const when of ["connecting", "catching_up", "online", "waiting", "replaced", "banned"] as const) {
  test(`closing in a handler leaves nothing (${when})`, async () => {
    const world: World = new World({
      onState: (state) => {
        world.states.push(state);
        if (state === when) void world.client.close();
      },
    });
    world.client.connect();
    await settle();
    if (when !== "connecting") await world.opened();
    if (when === "waiting") world.sockets.last.end();
    if (when === "replaced") world.sockets.last.say(TOO_MANY);
    if (when === "banned") world.sockets.last.say(BAN);
    await assertOver(world);
  });
}

test("messages that had come are given before the close resolves", async () => {
  const handled = new Later<void>();
  const world: World = new World({ onMessage: async (one) => (await handled.promise, void world.given.push(one)) });
  await world.connected();
  await world.push(message(1));
  await world.clock.pass(100);
  await world.push(message(3), message(2));
  let over = false;
  const closed = world.client.close().then(() => (over = true));
  assert.equal(world.client.close(), world.client.close());
  world.sockets.last.end(1000);
  await settle();
  assert.equal(over, false);
  handled.resolve();
  await closed;
  assert.deepEqual(numbers(world.given), [1, 2, 3]);
});

test("a message that is rejected during the close is reported and not given again", async () => {
  const world = await World.online({ onMessage: () => Promise.reject(new Error("no room")) });
  await world.push(message(1));
  await assertOver(world);
  assert.deepEqual(world.codes, ["handler"]);
});

test("unacknowledged and later sends reject after the close", async () => {
  const world = await World.online();
  const sent = assert.rejects(world.client.sendToUser("ben", 1), { code: "closed" });
  await assertOver(world);
  await sent;
  await assert.rejects(world.client.sendToUser("ben", 1), { code: "closed" });
});
