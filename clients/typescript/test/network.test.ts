/** Tests against the local stack through a network that fails at seeded moments. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ChatClient, type ChatError, type Message, type Receipt, type SendOptions, type Timing } from "../src/index.js";
import { Proxy, type Hole } from "./proxy.js";
import { befriend, startStack, tokenOf, type Stack } from "./stack.js";
import { seeded, until } from "./time.js";

/** How many messages each of the two users sends to the other, and how many to the group. */
const EACH = Number(process.env["MESSAGES"] ?? 100);

/** One seed, or `7..12`. */
const [FIRST_SEED = 1, LAST_SEED = FIRST_SEED] = (process.env["SEEDS"] ?? "1..2").split("..").map(Number);

/** Short waits, so that the tests are fast. */
const HASTE: Partial<Timing> = {
  pingEveryMs: 100,
  silenceMs: 300,
  answerMs: 500,
  handshakeMs: 1_500,
  requestMs: 1_500,
  ackMs: 400,
  backoff: { baseMs: 20, maxMs: 300 },
  stableMs: 1_000,
  holdMs: 30_000,
  settleMs: 1_000,
  pullEveryMs: 1_000,
};

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(() => stack.stop());

type Send = (client: ChatClient, options: SendOptions) => Promise<Receipt>;

/** A user with a network of their own. The application stores messages, fails now and then, and restarts. */
class Device {
  readonly received: Message[] = [];
  readonly own: Message[] = [];
  client: ChatClient;
  connects = 0;
  restarts = 0;
  failures = 0;
  /**
   * Whether messages may be out of order. Either the client was closed before it had caught up, so pushed messages were
   * given before missed ones. Or the application rejected a message after the close, so the next client gave it later.
   */
  outOfTurn = false;
  /** The number of answered pulls. */
  pulls = 0;
  #starting: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(readonly user: string, readonly proxy: Proxy, readonly random: () => number) {
    this.client = this.#start();
  }

  #start(): ChatClient {
    return new ChatClient({
      url: this.proxy.url,
      // The token expires while connections are open.
      token: async () => tokenOf(this.user, 1 + Math.floor(this.random() * 3)),
      onMessage: (message) => this.#take(message),
      onState: (state) => {
        if (state === "catching_up") this.connects += 1;
      },
      stored: this.received.map(({ id }) => id),
      fetch: async (input, init) => {
        const answer = await fetch(input, init);
        if (init?.method === "GET" && answer.ok) this.pulls += 1;
        return answer;
      },
      timing: HASTE,
    });
  }

  #take(message: Message): void {
    // An earlier client of this device has sent it.
    if (message.senderId === this.user) return void this.own.push(message);
    if (this.random() < 0.05) {
      this.failures += 1;
      this.outOfTurn ||= this.client.state === "closed";
      throw new Error("no room");
    }
    this.received.push(message);
  }

  /** Closes the application properly and restarts it with what it has stored, unless a restart is under way. */
  restart(): void {
    if (this.client.state !== "closed") this.#starting = this.#startAgain();
  }

  async #startAgain(): Promise<void> {
    this.restarts += 1;
    this.outOfTurn ||= this.client.state !== "online";
    await this.client.close();
    this.client = this.#start();
    this.client.connect();
  }

  /** Sends a message, through several clients if necessary. */
  async send(requestId: string, send: Send): Promise<Receipt> {
    for (;;) {
      await this.#starting;
      try {
        return await send(this.client, { requestId });
      } catch (error) {
        if (this.#hasEnded || (error as ChatError).code !== "closed") throw error;
      }
    }
  }

  /** The contents from one sender to one addressee, in the order in which they were or should be given. */
  contents(type: Message["type"]): unknown[] {
    const messages = this.received.filter((message) => message.type === type);
    if (this.outOfTurn) messages.sort((a, b) => (a.id < b.id ? -1 : 1));
    return messages.map(({ content }) => content);
  }

  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#starting;
    await this.client.close();
    await this.proxy.close();
  }
}

/** Breaks networks and applications again and again until told to stop. Then all of them work. */
async function torment(devices: Device[], random: () => number, isOver: () => boolean): Promise<void> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  while (!isOver()) {
    await pause(50 + random() * 350);
    const device = devices[Math.floor(random() * devices.length)]!;
    const { proxy } = device;
    const one = () => random() < 0.5;
    const chance = random();
    const holes: Hole[] = ["both", "to client", "to server"];
    if (chance < 0.25) proxy.cut();
    else if (chance < 0.45) proxy.cut(one);
    else if (chance < 0.8) proxy.blackHole(holes[Math.floor(random() * 3)], one);
    else if (chance < 0.9) device.restart();
    else {
      proxy.refuses = true;
      proxy.cut();
      await pause(random() * 400);
      proxy.refuses = false;
    }
  }
}

describe("each message is given once and in order despite a failing network", { concurrency: 2 }, () => {
  for (let seed = FIRST_SEED; seed <= LAST_SEED; seed++) {
    test(`seed ${seed}`, { timeout: 60_000 }, async (context) => {
      const random = seeded(seed);
      const names = [`ann${seed}`, `ben${seed}`] as const;
      await befriend(stack, ...names);
      const ann = new Device(names[0], await Proxy.to(stack.publicUrl), seeded(seed + 1_000));
      const ben = new Device(names[1], await Proxy.to(stack.publicUrl), seeded(seed + 2_000));
      const devices = [ann, ben];
      let isOver = false;
      let storm = Promise.resolve();
      context.after(async () => {
        isOver = true;
        await storm;
        await Promise.all(devices.map((device) => device.end()));
      });
      const group = await ann.client.api.createGroup("both");
      await ann.client.api.invite(group, ben.user);
      for (const { id } of await ben.client.api.invitations()) await ben.client.api.acceptInvitation(id);

      ann.client.connect();
      ben.client.connect();
      storm = torment(devices, random, () => isOver);
      const sends: Promise<Receipt>[] = [];
      for (let n = 0; n < EACH; n++) {
        for (const [from, to] of [[ann, ben], [ben, ann]] as const) {
          sends.push(from.send(`p${n}`, (client, options) => client.sendToUser(to.user, `p${n}`, options)));
          sends.push(from.send(`g${n}`, (client, options) => client.sendToGroup(group, `g${n}`, options)));
        }
        await new Promise((resolve) => setTimeout(resolve, random() * 60));
      }
      const receipts = await Promise.all(sends);
      isOver = true;
      await storm;

      const whole = () => devices.every((device) => device.received.length >= 2 * EACH);
      const count = ({ user, received }: Device) => `${user} has ${received.length} of ${2 * EACH}`;
      await until(whole, 30_000, () => devices.map(count).join(", "));
      // Repeated messages would come with the next pulls.
      const pulls = devices.map((device) => device.pulls);
      await until(() => devices.every((device, index) => device.pulls >= pulls[index]! + 2));
      for (const device of devices) {
        for (const [type, letter] of [["unicast", "p"], ["multicast", "g"]] as const) {
          assert.deepEqual(device.contents(type), Array.from({ length: EACH }, (_, n) => `${letter}${n}`), device.user);
        }
      }
      for (const { own, user } of devices) assert.equal(new Set(own.map(({ id }) => id)).size, own.length, user);
      assert.equal(new Set(receipts.map(({ id }) => id)).size, 4 * EACH);
      const got = new Set([...ann.received, ...ben.received].map(({ id }) => id));
      assert.deepEqual(receipts.filter(({ id }) => !got.has(id)), []);
      const sum = (count: (device: Device) => number) => devices.reduce((total, device) => total + count(device), 0);
      const deaths = sum(({ proxy }) => proxy.deaths);
      context.diagnostic(
        `seed ${seed}: ${deaths} connections died, ${sum(({ connects }) => connects)} were opened, ` +
          `${sum(({ restarts }) => restarts)} restarts, ${sum(({ failures }) => failures)} messages refused at first`,
      );
      assert(deaths > 5);
    });
  }
});
