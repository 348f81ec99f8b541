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
  type Message,
  type Notification,
} from "../src/index.js";
import { Proxy } from "./proxy.js";
import { befriend, notify, startStack, tokenOf, type Stack } from "./stack.js";
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
  readonly errors: ChatError[] = [];
  readonly client: ChatClient;

  constructor(readonly user: string, options: Partial<ClientOptions> = {}) {
    this.client = new ChatClient({
      url: stack.publicUrl,
      token: () => tokenOf(user),
      onMessage: (message) => void this.received.push(message),
      onNotification: (notification) => this.notifications.push(notification),
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
    const tokens = ["forged", tokenOf("ann4", -60), tokenOf("ann4")];
    const ann = await new Person("ann4", { token: () => tokens.shift() ?? tokenOf("ann4") }).online();
    assert.deepEqual(ann.errors.map(({ code }) => code), ["network", "network"]);
    await ann.client.close();
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
