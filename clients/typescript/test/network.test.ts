/** Against the local stack, through a network that dies at moments that follow from a seed. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ChatClient, type Message, type Timing } from "../src/index.js";
import { Proxy, type Hole } from "./proxy.js";
import { befriend, startStack, tokenOf, type Stack } from "./stack.js";
import { seeded, until } from "./time.js";

/** How many messages each of the two sends to the other, and as many to the group. */
const EACH = Number(process.env["MESSAGES"] ?? 100);

/** One seed, or `7..12`. */
const [FIRST_SEED = 1, LAST_SEED = FIRST_SEED] = (process.env["SEEDS"] ?? "1..2").split("..").map(Number);

/** The waits of a client in a hurry. */
const HASTE: Partial<Timing> = {
  pingEveryMs: 100,
  silenceMs: 300,
  answerMs: 500,
  handshakeMs: 1_500,
  requestMs: 1_500,
  ackMs: 400,
  backoff: { baseMs: 20, maxMs: 300 },
  stableMs: 1_000,
  holdMs: 5_000,
  settleMs: 1_000,
  pullEveryMs: 2_000,
};

let stack: Stack;
before(async () => {
  stack = await startStack();
});
after(() => stack.stop());

/** A user behind a network of its own. */
class Device {
  readonly received: Message[] = [];
  readonly client: ChatClient;
  connects = 0;

  constructor(readonly user: string, readonly proxy: Proxy) {
    this.client = new ChatClient({
      url: proxy.url,
      token: async () => tokenOf(user),
      onMessage: (message) => void this.received.push(message),
      onState: (state) => {
        if (state === "catching_up") this.connects += 1;
      },
      timing: HASTE,
    });
  }

  contents(type: Message["type"]): string[] {
    return this.received.filter((message) => message.type === type).map((message) => String(message.content));
  }

  async end(): Promise<void> {
    await this.client.close();
    await this.proxy.close();
  }
}

/** Break the networks, again and again, until told to stop; then they are whole. */
async function torment(proxies: Proxy[], random: () => number, isOver: () => boolean): Promise<void> {
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  while (!isOver()) {
    await pause(50 + random() * 350);
    const proxy = proxies[Math.floor(random() * proxies.length)];
    if (proxy === undefined) continue;
    const one = () => random() < 0.5;
    const fate = random();
    const holes: Hole[] = ["both", "to client", "to server"];
    if (fate < 0.25) proxy.cut();
    else if (fate < 0.5) proxy.cut(one);
    else if (fate < 0.9) proxy.blackHole(holes[Math.floor(random() * 3)], one);
    else {
      proxy.refuses = true;
      proxy.cut();
      await pause(random() * 400);
      proxy.refuses = false;
    }
  }
}

for (let seed = FIRST_SEED; seed <= LAST_SEED; seed++) {
  test(`each message arrives once, whatever the network does (seed ${seed})`, { timeout: 60_000 }, async (context) => {
    const random = seeded(seed);
    const names = [`ann${seed}`, `ben${seed}`] as const;
    await befriend(stack, ...names);
    const proxies = [await Proxy.to(stack.publicUrl), await Proxy.to(stack.publicUrl)] as const;
    const ann = new Device(names[0], proxies[0]);
    const ben = new Device(names[1], proxies[1]);
    const group = await ann.client.api.createGroup("both");
    await ann.client.api.invite(group, ben.user);
    for (const { id } of await ben.client.api.invitations()) await ben.client.api.acceptInvitation(id);

    ann.client.connect();
    ben.client.connect();
    let isOver = false;
    const storm = torment([...proxies], random, () => isOver);
    const sends = [];
    for (let n = 0; n < EACH; n++) {
      for (const [from, to] of [[ann, ben], [ben, ann]] as const) {
        sends.push(from.client.sendToUser(to.user, `p${n}`), from.client.sendToGroup(group, `g${n}`));
      }
      await new Promise((resolve) => setTimeout(resolve, random() * 60));
    }
    const receipts = await Promise.all(sends);
    isOver = true;
    await storm;

    const expected = (letter: string) => Array.from({ length: EACH }, (_, n) => `${letter}${n}`).sort();
    const whole = () => [ann, ben].every((device) => device.received.length >= 2 * EACH);
    await until(whole, 30_000, () => [ann, ben].map((d) => `${d.user} has ${d.received.length} of ${2 * EACH}`).join(", "));
    // What is repeated would come with the next pulls.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    for (const device of [ann, ben]) {
      assert.deepEqual(device.contents("unicast").sort(), expected("p"), device.user);
      assert.deepEqual(device.contents("multicast").sort(), expected("g"), device.user);
    }
    assert.equal(new Set(receipts.map(({ id }) => id)).size, 4 * EACH);
    const got = new Set([...ann.received, ...ben.received].map(({ id }) => id));
    assert.deepEqual(receipts.filter(({ id }) => !got.has(id)), []);
    const deaths = proxies[0].deaths + proxies[1].deaths;
    context.diagnostic(`${deaths} connections died; ${ann.connects} and ${ben.connects} connections were opened`);
    assert(deaths > 5);
    await Promise.all([ann.end(), ben.end()]);
  });
}
