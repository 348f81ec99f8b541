/** Tests against the local stack over a network that works. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import {
  ChatClient,
  type ChatError,
  type ClientOptions,
  type GroupFrame,
  type InvitationFrame,
  type Message,
  type Notification,
  type ReadFrame,
  type RecalledFrame,
  type TypingFrame,
} from "../src/index.js";
import { Proxy } from "./proxy.js";
import { ban, befriend, kick, notify, startStack, tokenOf, unban, type Stack } from "./stack.js";
import { until } from "./time.js";

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(async () => {
  // Closes the clients of failed tests too. Otherwise they would keep connecting.
  await Promise.all(people.map(({ client }) => client.close()));
  await stack.stop();
});

const people: Person[] = [];

/** A connected client of a user, and the messages that it was given. */
class Person {
  readonly received: Message[] = [];
  readonly notifications: Notification[] = [];
  readonly recalled: RecalledFrame[] = [];
  readonly signals: (ReadFrame | TypingFrame | InvitationFrame | GroupFrame)[] = [];
  readonly errors: ChatError[] = [];
  readonly client: ChatClient;

  constructor(readonly user: string, options: Partial<ClientOptions> = {}) {
    this.client = new ChatClient({
      url: stack.publicUrl,
      token: () => tokenOf(user),
      onMessage: (message) => void this.received.push(message),
      onNotification: (notification) => this.notifications.push(notification),
      onRecalled: (recalled) => void this.recalled.push(recalled),
      onRead: (read) => this.signals.push(read),
      onTyping: (typing) => this.signals.push(typing),
      onInvitation: (invitation) => this.signals.push(invitation),
      onGroup: (change) => this.signals.push(change),
      onError: (error) => this.errors.push(error),
      timing: { backoff: { baseMs: 20, maxMs: 200 } },
      ...options,
    });
    people.push(this);
  }

  async online(): Promise<this> {
    this.client.connect();
    await until(() => this.client.state === "online");
    return this;
  }

  /** Waits for this many messages, and returns their contents. */
  async contents(count: number): Promise<unknown[]> {
    await until(() => this.received.length >= count, 20_000);
    return this.received.map(({ content }) => content);
  }

  /** Waits for this many signals. */
  async signalled(count: number): Promise<Person["signals"]> {
    await until(() => this.signals.length >= count);
    return this.signals;
  }
}

/** Two friends, with a phone and a laptop of the first one and a phone of the second one, all online. */
async function devices(first: string, second: string): Promise<{ phone: Person; laptop: Person; ben: Person }> {
  await befriend(stack, first, second);
  const people = [first, first, second].map((user) => new Person(user).online());
  const [phone, laptop, ben] = await Promise.all(people);
  assert(phone && laptop && ben);
  return { phone, laptop, ben };
}

async function close(...people: Person[]): Promise<void> {
  await Promise.all(people.map(({ client }) => client.close()));
  for (const { user, errors } of people) assert.deepEqual(errors, [], user);
}

describe("the client and the local stack", { concurrency: true }, () => {
  test("two users exchange messages, and a notification arrives", async () => {
    await befriend(stack, "ann", "ben");
    const [ann, ben] = await Promise.all([new Person("ann").online(), new Person("ben").online()]);
    const receipt = await ann.client.sendToUser("ben", { text: "hi" });
    assert.deepEqual(await ben.contents(1), [{ text: "hi" }]);
    const { id, timestamp } = ben.received[0]!;
    assert.deepEqual({ id, timestamp }, receipt);
    await notify(stack, "ben", "order", { state: "shipped" });
    await until(() => ben.notifications.length > 0);
    assert.deepEqual(ben.notifications, [
      { type: "NOTIFICATION", notificationType: "order", content: { state: "shipped" } },
    ]);
    await Promise.all([ann.client.close(), ben.client.close()]);
    assert.deepEqual([...ann.errors, ...ben.errors], []);
  });

  test("a connection beyond the limit replaces the oldest, which reconnects only when told", async (context) => {
    const small = await startStack([], { MAX_CONNECTIONS: "1" });
    context.after(() => small.stop());
    await befriend(small, "ann", "ben");
    const at = { url: small.publicUrl };
    const [ann, older] = await Promise.all([new Person("ann", at).online(), new Person("ben", at).online()]);
    const newer = await new Person("ben", at).online();
    await until(() => older.client.state === "replaced");
    assert.deepEqual(older.errors.map(({ code }) => code), ["too_many_connections"]);
    await ann.client.sendToUser("ben", "to the newer");
    assert.deepEqual(await newer.contents(1), ["to the newer"]);
    await older.online();
    assert.deepEqual(await older.contents(1), ["to the newer"], "it resumes");
    await until(() => newer.client.state === "replaced");
    await Promise.all([ann, older, newer].map(({ client }) => client.close()));
  });

  test("sends beyond the limit arrive in the next minute, once and in order", { timeout: 120_000 }, async (context) => {
    const small = await startStack([], { MESSAGES_PER_MINUTE: "10" });
    context.after(() => small.stop());
    await befriend(small, "ann", "ben");
    const at = { url: small.publicUrl };
    const [ann, ben] = await Promise.all([new Person("ann", at).online(), new Person("ben", at).online()]);
    // All sends are in one minute of the clock.
    const leftMs = 60_000 - (Date.now() % 60_000);
    if (leftMs < 5_000) await new Promise((resolve) => setTimeout(resolve, leftMs));
    const contents = Array.from({ length: 15 }, (_, n) => n);
    const sends = contents.map((n) => ann.client.sendToUser("ben", n));
    await until(() => ann.errors.length > 0);
    const [error] = ann.errors;
    assert.equal(error?.code, "rate_limited");
    assert(error.retryAfterMs !== undefined && error.retryAfterMs > 0 && error.retryAfterMs <= 60_000);
    assert(ann.client.limitedUntil !== undefined && ann.client.limitedUntil >= Date.now() + error.retryAfterMs - 1_000);
    assert.equal(ann.client.state, "online");
    assert.deepEqual(await ben.contents(10), contents.slice(0, 10));
    const refused = { name: "ChatError", code: "rate_limited", status: 429 };
    await assert.rejects(ann.client.api.markRead({ userId: "ben" }, ben.received[0]!.id), refused);
    const byRest = ann.client.sendByRest({ receiverId: "ben" }, "by REST");
    await until(() => ann.client.unsent === 0, 90_000);
    await Promise.all([...sends, byRest]);
    await ben.contents(16);
    assert.deepEqual(ben.received.map(({ content }) => content).filter((content) => content !== "by REST"), contents);
    assert.equal(ben.received.length, 16);
    assert.equal(ann.client.limitedUntil, undefined);
    assert(ann.errors.every(({ code }) => code === "rate_limited"));
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("a ban ends the connection and all sends, and nothing is lost after it", { timeout: 60_000 }, async () => {
    await befriend(stack, "ann30", "ben30");
    const [ann, ben] = await Promise.all([new Person("ann30").online(), new Person("ben30").online()]);
    const end = Math.floor(Date.now() / 1_000) * 1_000 + 3_600_000;
    const banned = { name: "ChatError", code: "banned", until: end };
    await ban(stack, "ben30", end);
    await until(() => ben.client.state === "banned");
    assert.equal(ben.client.bannedUntil, end);
    assert.deepEqual(ben.errors.map(({ code, until }) => [code, until]), [["banned", end]]);
    await assert.rejects(ben.client.sendToUser("ann30", 1), banned);
    await assert.rejects(ben.client.sendByRest({ receiverId: "ann30" }, 1), { ...banned, status: 403 });
    await assert.rejects(ben.client.api.groups(), { ...banned, status: 403 });
    await ann.client.sendToUser("ben30", "meanwhile");
    // The handshake is refused. Only a REST call tells why.
    ben.client.connect();
    const waiting = assert.rejects(ben.client.sendToUser("ann30", 2), banned);
    await until(() => ben.client.state === "banned");
    await waiting;
    assert(ben.errors.filter(({ code }) => code === "banned").length === 2);
    await unban(stack, "ben30");
    await ben.online();
    assert.deepEqual(await ben.contents(1), ["meanwhile"]);
    await ben.client.sendToUser("ann30", "back");
    assert.deepEqual(await ann.contents(1), ["back"]);
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("a client whose user is banned before it connects stops after one attempt", async () => {
    const end = Math.floor(Date.now() / 1_000) * 1_000 + 3_600_000;
    await ban(stack, "ben31", end);
    let asked = 0;
    const token = () => (asked++, tokenOf("ben31"));
    const ben = new Person("ben31", { token, timing: { backoff: { baseMs: 2_000, maxMs: 4_000 } } });
    ben.client.connect();
    await until(() => ben.client.state === "banned");
    assert.deepEqual(ben.errors.map(({ code }) => code), ["network", "banned"]);
    assert.equal(ben.client.bannedUntil, end);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    assert.deepEqual([ben.client.state, asked], ["banned", 1]);
    await ben.client.close();
  });

  test("a kicked client connects again by itself", async () => {
    await befriend(stack, "ann32", "ben32");
    const [ann, ben] = await Promise.all([new Person("ann32").online(), new Person("ben32").online()]);
    await kick(stack, "ben32");
    await until(() => ben.errors.length > 0 && ben.client.state === "online");
    assert.deepEqual([...new Set(ben.errors.map(({ code }) => code))], ["network"]);
    await ann.client.sendToUser("ben32", "again");
    assert.deepEqual(await ben.contents(1), ["again"]);
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("reusing a requestId for another message is refused", async () => {
    await befriend(stack, "ann9", "ben9");
    const ann = await new Person("ann9").online();
    const options = { requestId: "one" };
    const receipt = await ann.client.sendToUser("ben9", 1, options);
    assert.deepEqual(await ann.client.sendToUser("ben9", 1, options), receipt);
    const other = ann.client.sendToUser("ben9", 2, options);
    await assert.rejects(other, { name: "ChatError", code: "request_id_reused" });
    const ben = await new Person("ben9").online();
    assert.deepEqual(await ben.contents(1), [1]);
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("several pages of missed messages are given in order and dropped", { timeout: 60_000 }, async () => {
    await befriend(stack, "ann2", "ben2");
    const ann = await new Person("ann2").online();
    const content = "x".repeat(30_000);
    // A page ends at 4 MiB.
    const sends = Array.from({ length: 150 }, (_, n) => ann.client.sendToUser("ben2", `${n} ${content}`));
    await Promise.all(sends);
    const ben = await new Person("ben2").online();
    const numbers = (await ben.contents(150)).map((text) => Number.parseInt(String(text)));
    assert.deepEqual(numbers, Array.from({ length: 150 }, (_, n) => n));
    const { messages } = await ben.client.api.pull();
    assert.deepEqual(messages, []);
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("a token drops exactly its page, and a wrong token drops nothing", async () => {
    await befriend(stack, "ann12", "ben12");
    const ann = await new Person("ann12").online();
    const { api } = new Person("ben12").client;
    await ann.client.sendToUser("ben12", "on the page");
    const { token } = await api.pull();
    assert(token !== undefined);
    await ann.client.sendToUser("ben12", "later");
    const contents = async () => (await api.pull()).messages.map(({ content }) => content);
    await assert.rejects(api.drop([token, randomUUID()]), { name: "ChatError", code: "forbidden", status: 403 });
    assert.deepEqual(await contents(), ["on the page", "later"]);
    await api.drop([token]);
    await api.drop([token]);
    assert.deepEqual(await contents(), ["later"]);
    await ann.client.close();
  });

  test("a message rejected before the end is given to the next client", async () => {
    await befriend(stack, "ann3", "ben3");
    const ann = await new Person("ann3").online();
    const stored: string[] = [];
    const first = await new Person("ben3", {
      onMessage: ({ id, content }) => {
        if (content === "two") throw new Error("no room");
        stored.push(id);
      },
    }).online();
    for (const content of ["one", "two", "three"]) await ann.client.sendToUser("ben3", content);
    await until(() => stored.length === 1 && first.errors.length > 0);
    await first.client.close();
    const second = await new Person("ben3", { stored }).online();
    assert.deepEqual(await second.contents(1), ["two"]);
    assert.equal(stored.length, 2);
    await Promise.all([ann.client.close(), second.client.close()]);
  });

  for (const [name, hole, ends] of [
    ["that is closing", "to client", true],
    ["whose network has died unnoticed", "both", false],
  ] as const) {
    test(`messages that a client ${name} did not see are given to the next one`, async (context) => {
      const [from, to] = ends ? ["ann10", "ben10"] : ["ann11", "ben11"];
      await befriend(stack, from, to);
      const proxy = await Proxy.to(stack.publicUrl);
      context.after(() => proxy.close());
      const [ann, ben] = await Promise.all([new Person(from).online(), new Person(to, { url: proxy.url }).online()]);
      await ann.client.sendToUser(to, "seen");
      await ben.contents(1);
      // From now on, the connection receives messages that nobody sees.
      proxy.blackHole(hole);
      await ann.client.sendToUser(to, "unseen");
      if (ends) await ben.client.close();
      const next = await new Person(to).online();
      await until(() => next.received.some(({ content }) => content === "unseen"));
      assert.deepEqual(ben.received.map(({ content }) => content), ["seen"]);
      const ids = next.received.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length);
    });
  }

  test("only a valid token connects", async () => {
    for (const wrong of ["forged", tokenOf("ann4", -60)]) {
      let token = wrong;
      const ann = new Person("ann4", { token: () => token });
      ann.client.connect();
      await until(() => ann.errors.some(({ code }) => code === "unauthorized"));
      assert.deepEqual(new Set(ann.errors.map(({ code }) => code)), new Set(["network", "unauthorized"]));
      token = tokenOf("ann4");
      await ann.online();
      await ann.client.close();
    }
  });

  test("a wrong address is told", async () => {
    const wrong: [string, string, RegExp][] = [
      [stack.internalUrl, "address", /check the option url/],
      ["http://127.0.0.1:9", "network", /127\.0\.0\.1:9 does not answer/],
    ];
    for (const [url, code, text] of wrong) {
      const ann = new Person("ann4", { url });
      ann.client.connect();
      await until(() => ann.errors.some((error) => error.code === code && text.test(error.message)));
      await ann.client.close();
    }
  });

  test("an expired token is renewed while connected, and the send arrives", async () => {
    await befriend(stack, "ann5", "ben5");
    const ben = await new Person("ben5").online();
    let asked = 0;
    // Valid for the handshake and little longer.
    const ann = await new Person("ann5", { token: () => tokenOf("ann5", asked++ === 0 ? 2 : 3600) }).online();
    const expired = () => ann.errors.some(({ message }) => message === "the token expired");
    for (let n = 0; !expired(); n++) await ann.client.sendToUser("ben5", n);
    const last = await ann.client.sendToUser("ben5", "last");
    await until(() => ben.received.some(({ id }) => id === last.id));
    assert(asked >= 2);
    const contents = await ben.contents(2);
    assert.deepEqual(contents, [...Array(contents.length - 1).keys(), "last"]);
    await Promise.all([ann.client.close(), ben.client.close()]);
  });

  test("refused sends and calls reject with a ChatError that names the mistake", async () => {
    const ann = await new Person("ann6").online();
    const { client } = ann;
    const wrong = { name: "ChatError", code: "bad_request" };
    await assert.rejects(client.sendToUser("no user!", 1), { ...wrong, message: /receiverId/ });
    await assert.rejects(client.api.createGroup(" "), { ...wrong, message: /name/ });
    await assert.rejects(client.api.group("none"), { name: "ChatError", code: "forbidden", status: 403 });
    await ann.client.close();
  });

  test("groups can be created, joined, used, renamed and left", async () => {
    const [ann, ben, cara] = await Promise.all(["ann7", "ben7", "cara7"].map((user) => new Person(user).online()));
    assert(ann && ben && cara);
    const id = await ann.client.api.createGroup("Team & friends");
    for (const { user } of [ben, cara]) await ann.client.api.invite(id, user);
    const [invitation] = await ben.client.api.invitations();
    assert.deepEqual({ ...invitation, id: "" }, {
      id: "", groupId: id, groupName: "Team & friends", userId: "ben7", invitedBy: "ann7",
    });
    await ben.client.api.acceptInvitation(invitation!.id);
    const [other] = await cara.client.api.invitations();
    await cara.client.api.declineInvitation(other!.id);
    assert.deepEqual(await cara.client.api.invitations(), []);
    await ann.client.sendToGroup(id, "hello");
    assert.deepEqual(await ben.contents(1), ["hello"]);
    await ann.client.api.renameGroup(id, "Team");
    const group = { id, name: "Team", managerId: "ann7", usersId: ["ann7", "ben7"] };
    assert.deepEqual(await ben.client.api.group(id), group);
    assert.deepEqual(await ben.client.api.groups(), [group]);
    await ann.client.api.removeMember(id, "ben7");
    assert.deepEqual(await ben.client.api.groupIds(), []);
    await ann.client.api.leaveGroup(id);
    assert.deepEqual(await ann.client.api.groups(), []);
    await Promise.all([ann, ben, cara].map(({ client }) => client.close()));
  });

  test("each device has the same messages once, and the same history after a reload", async () => {
    const { phone, laptop, ben } = await devices("ann20", "ben20");
    await phone.client.sendToUser("ben20", "by phone");
    await ben.contents(1);
    await ben.client.sendToUser("ann20", "answer");
    await phone.contents(1);
    await laptop.client.sendToUser("ben20", "by laptop");
    assert.deepEqual(await ben.contents(2), ["by phone", "by laptop"]);
    assert.deepEqual(await laptop.contents(2), ["by phone", "answer"]);
    assert.deepEqual(await phone.contents(2), ["answer", "by laptop"]);
    const rest = await phone.client.sendByRest({ receiverId: "ben20" }, "by REST");
    await ben.client.sendToUser("ann20", "last");
    assert.deepEqual(await laptop.contents(4), ["by phone", "answer", "by REST", "last"]);
    assert.deepEqual(await phone.contents(3), ["answer", "by laptop", "last"]);
    assert.equal(laptop.received[2]?.id, rest.id);
    await close(laptop);
    const reloaded = await new Person("ann20", { stored: laptop.received.map(({ id }) => id) }).online();
    const histories = await Promise.all([
      phone.client.api.history({ userId: "ben20" }),
      reloaded.client.api.history({ userId: "ben20" }),
      ben.client.api.history({ userId: "ann20" }),
    ]);
    const [{ messages, ...more } = assert.fail()] = histories;
    assert.deepEqual(messages.map(({ content }) => content), ["by phone", "answer", "by laptop", "by REST", "last"]);
    assert.deepEqual(more, { hasMore: false, next: undefined });
    for (const history of histories) assert.deepEqual(history, histories[0]);
    const told = [...laptop.received, ...phone.received].sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const message of told) assert.deepEqual(messages.find(({ id }) => id === message.id), message);
    await close(phone, reloaded, ben);
    assert.deepEqual(reloaded.received, []);
  });

  test("a history is read page by page in both directions", async () => {
    await befriend(stack, "ann21", "ben21");
    const ann = new Person("ann21");
    for (let n = 0; n < 5; n++) await ann.client.sendByRest({ receiverId: "ben21" }, n);
    const { api } = ann.client;
    const of = { userId: "ben21" };
    const contents: unknown[] = [];
    for (let next: string | undefined, hasMore = true; hasMore; ) {
      const page = await api.history(of, { before: next, limit: 2 });
      contents.unshift(...page.messages.map(({ content }) => content));
      ({ next, hasMore } = page);
    }
    assert.deepEqual(contents, [0, 1, 2, 3, 4]);
    const [first] = (await api.history(of)).messages;
    const page = await api.history(of, { after: first!.id, limit: 2 });
    assert.deepEqual(page.messages.map(({ content }) => content), [1, 2]);
    const rest = await api.history(of, { after: page.next, limit: 2 });
    assert.deepEqual(rest.messages.map(({ content }) => content), [3, 4]);
    assert.deepEqual(await api.history({ userId: "nobody21" }), { messages: [], hasMore: false, next: undefined });
    await assert.rejects(api.history({ groupId: "none21" }), { code: "forbidden", status: 403 });
    await assert.rejects(api.history(of, { limit: 101 }), { code: "bad_request", message: /limit/ });
  });

  test("read marks reach the other devices and the friend, and the list has them", async () => {
    const { phone, laptop, ben } = await devices("ann22", "ben22");
    const ids = [];
    for (const content of ["one", "two"]) ids.push((await ben.client.sendToUser("ann22", content)).id);
    await phone.contents(2);
    const before = await phone.client.api.conversations();
    const { last, ...conversation } = before.conversations[0]!;
    assert.deepEqual(conversation, { type: "unicast", userId: "ben22", unread: 2 });
    assert.deepEqual(last, phone.received[1]);
    assert.deepEqual([before.conversations.length, before.hasMore, before.next], [1, false, undefined]);
    const until = ids[1]!;
    await phone.client.api.markRead({ userId: "ben22" }, until);
    assert.deepEqual(await laptop.signalled(1), [{ type: "READ", readerId: "ann22", userId: "ben22", until }]);
    assert.deepEqual(await ben.signalled(1), [{ type: "READ", readerId: "ann22", userId: "ann22", until }]);
    await phone.client.api.markRead({ userId: "ben22" }, ids[0]!);
    const [mine] = (await laptop.client.api.conversations()).conversations;
    assert.deepEqual(mine, { type: "unicast", userId: "ben22", last, unread: 0, readUntil: until });
    const [theirs] = (await ben.client.api.conversations()).conversations;
    assert.deepEqual(theirs, { type: "unicast", userId: "ann22", last, unread: 0, peerReadUntil: until });
    await close(phone, laptop, ben);
  });

  test("a recalled message is recalled on all devices, also on one that was away", async () => {
    const { phone, laptop, ben } = await devices("ann23", "ben23");
    const away = await new Person("ben23").online();
    const { id } = await phone.client.sendToUser("ben23", "oops");
    await Promise.all([laptop, ben, away].map((person) => person.contents(1)));
    await away.client.close();
    await phone.client.api.recall(id, { receiverId: "ben23" });
    await phone.client.api.recall(id, { receiverId: "ben23" });
    await Promise.all([phone, laptop, ben].map((person) => until(() => person.recalled.length > 0)));
    const recalled = ben.recalled[0]!;
    const { timestamp } = recalled;
    assert.deepEqual(recalled, { type: "RECALLED", id, senderId: "ann23", receiverId: "ben23", timestamp });
    const back = await new Person("ben23", { stored: [id] }).online();
    const later = await phone.client.sendToUser("ben23", "later");
    await back.contents(1);
    for (const person of [phone, laptop, ben, back]) {
      assert.deepEqual(person.recalled, [recalled], person.user);
      const { messages } = await person.client.api.history(
        { userId: person.user === "ann23" ? "ben23" : "ann23" },
      );
      assert.deepEqual(messages.map((message) => message.id), [id, later.id]);
      const common = { type: "unicast", id, senderId: "ann23", receiverId: "ben23" };
      assert.deepEqual(messages[0], { ...common, timestamp: messages[0]?.timestamp, recalledAt: timestamp });
    }
    assert.deepEqual(back.received.map(({ content }) => content), ["later"]);
    await assert.rejects(ben.client.api.recall(later.id, { receiverId: "ann23" }), { code: "forbidden", status: 403 });
    await close(phone, laptop, ben, back);
  });

  test("typing is signalled to a friend, once in a while", async () => {
    const { phone, laptop, ben } = await devices("ann24", "ben24");
    for (let n = 0; n < 5; n++) phone.client.typing("ben24");
    assert.deepEqual(await ben.signalled(1), [{ type: "TYPING", senderId: "ann24" }]);
    await phone.client.sendToUser("ben24", "done");
    await ben.contents(1);
    await laptop.contents(1);
    assert.deepEqual([phone, laptop, ben].map(({ signals }) => signals.length), [0, 0, 1]);
    await close(phone, laptop, ben);
  });

  test("groups signal invitations and changes, are handed over, and mute a member", async () => {
    const { phone: ann, laptop, ben } = await devices("ann25", "ben25");
    const { api } = ann.client;
    const groupId = await api.createGroup("Team");
    await api.invite(groupId, "ben25");
    const [invitation] = await ben.client.api.invitations();
    await ben.signalled(1);
    assert.deepEqual(ben.signals, [{ type: "INVITATION", ...invitation }]);
    await ben.client.api.acceptInvitation(invitation!.id);
    await ben.client.sendToGroup(groupId, "before");
    await api.mute(groupId, "ben25", 5);
    const muted = { name: "ChatError", code: "muted" };
    const asMuted = (error: ChatError): boolean => {
      assert.equal(error.code, "muted");
      assert(Math.abs(error.until! - Date.now() - 300_000) < 60_000, `until ${error.until}`);
      return true;
    };
    await assert.rejects(ben.client.sendToGroup(groupId, "muted"), asMuted);
    await assert.rejects(ben.client.sendByRest({ groupId }, "muted"), asMuted);
    await assert.rejects(ben.client.sendByRest({ groupId }, "muted"), { ...muted, status: 403 });
    await assert.rejects(ben.client.api.unmute(groupId, "ben25"), { code: "forbidden", status: 403 });
    await api.unmute(groupId, "ben25");
    const { id } = await ben.client.sendToGroup(groupId, "after");
    assert.deepEqual(await ann.contents(2), ["before", "after"]);
    await api.markRead({ groupId }, id);
    await api.recall(id, { groupId });
    await until(() => ben.recalled.length > 0);
    assert.deepEqual(ben.recalled.map((one) => [one.id, one.groupId, one.senderId]), [[id, groupId, "ben25"]]);
    await api.renameGroup(groupId, "Group");
    await api.handOver(groupId, "ben25");
    assert.equal((await api.group(groupId)).managerId, "ben25");
    await assert.rejects(api.renameGroup(groupId, "Mine"), { code: "forbidden" });
    const { messages } = await api.history({ groupId });
    assert.deepEqual(messages.map(({ content }) => content), ["before", undefined]);
    const list = (await api.conversations()).conversations;
    const of = list.find((one) => one.type === "multicast");
    assert.deepEqual([of?.groupId, of?.name, of?.unread, of?.readUntil], [groupId, "Group", 0, id]);
    await ben.client.api.removeMember(groupId, "ann25");
    await ben.client.api.leaveGroup(groupId);
    const events = ({ signals }: Person) => signals.filter(({ type }) => type === "GROUP") as GroupFrame[];
    await until(() => events(laptop).some(({ event }) => event === "removed"));
    await until(() => events(ben).some(({ event }) => event === "dissolved"));
    const change = { type: "GROUP", groupId };
    const common = [
      { ...change, event: "joined", userId: "ben25" },
      { ...change, event: "renamed", name: "Group" },
      { ...change, event: "manager", userId: "ben25" },
      { ...change, event: "removed", userId: "ann25" },
    ];
    const byEvent = (person: Person) => events(person).sort((a, b) => order(a) - order(b));
    const order = ({ event }: GroupFrame) => ["joined", "renamed", "manager", "removed", "dissolved"].indexOf(event);
    const mine = byEvent(laptop).filter((one) => one.event !== "joined" || one.userId !== "ann25");
    assert.deepEqual(mine, common);
    assert.deepEqual(byEvent(ben), [...common, { ...change, event: "dissolved" }]);
    await close(ann, laptop, ben);
  });

  test("version 1 gets neither echoes nor signals", async () => {
    await befriend(stack, "ann26", "ben26");
    const version = 1;
    const [phone, laptop, ben] = await Promise.all([
      new Person("ann26").online(),
      new Person("ann26", { version }).online(),
      new Person("ben26", { version }).online(),
    ]);
    const { id } = await phone.client.sendToUser("ben26", "one");
    await ben.contents(1);
    phone.client.typing("ben26");
    laptop.client.typing("ben26");
    await phone.client.api.recall(id, { receiverId: "ben26" });
    await ben.client.sendToUser("ann26", "two");
    await Promise.all([phone, laptop].map((person) => person.contents(1)));
    await phone.client.sendToUser("ben26", "three");
    assert.deepEqual(await ben.contents(2), ["one", "three"]);
    assert.deepEqual(await laptop.contents(1), ["two"]);
    assert.deepEqual([...laptop.signals, ...laptop.recalled, ...ben.signals, ...ben.recalled], []);
    await close(phone, laptop, ben);
  });

  test("a process ends when its client is closed", { timeout: 20_000 }, async () => {
    const program = `
      import { ChatClient } from ${JSON.stringify(new URL("../src/index.js", import.meta.url).href)};
      const client = new ChatClient({
        url: ${JSON.stringify(stack.publicUrl)},
        token: () => ${JSON.stringify(tokenOf("ann8"))},
        onMessage: () => {},
        onState: (state) => state === "online" && client.close().then(() => console.log("closed")),
      });
      client.connect();
    `;
    const options = ["--experimental-websocket", "--input-type=module", "--eval", program];
    const child = spawn(process.execPath, options, { stdio: ["ignore", "pipe", "ignore"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    const [code] = await once(child, "close");
    assert.deepEqual([code, output], [0, "closed\n"]);
  });
});
