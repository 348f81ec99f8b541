import assert from "node:assert/strict";
import { test } from "node:test";

import type { Page, PullOptions } from "../src/api.js";
import { catchUp } from "../src/catchup.js";
import { Inbox } from "../src/inbox.js";
import { DEFAULT_TIMING } from "../src/timing.js";
import { idOf, Later, message } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

const numberOf = (id: string) => [...Array(100).keys()].find((n) => idOf(n) === id);

/** A server that answers by what it was given, an inbox, and what happened in its order. */
class World {
  readonly story: string[] = [];
  readonly abort = new AbortController();
  /** By the call that is answered with it. */
  readonly pages = new Map<string, { numbers: number[]; next?: number }>();
  /** Called for each delivered message. */
  taking: (n: number) => Promise<void> | void = () => {};
  failing = "";
  readonly inbox = new Inbox({
    remember: 100,
    timing: { ...DEFAULT_TIMING, overlapMs: 0 },
    clock: new FakeClock(),
    deliver: async (one) => {
      const n = Number(String(one.content).slice(1));
      this.story.push(`give ${n}`);
      await this.taking(n);
    },
  });

  #call(name: string): void {
    this.story.push(name);
    if (name === this.failing) throw new Error(name);
  }

  readonly api = {
    pull: async ({ after, since }: PullOptions = {}): Promise<Page> => {
      const name = since !== undefined ? `since ${numberOf(since)}` : after !== undefined ? `after ${numberOf(after)}` : "missed";
      this.#call(name);
      const { numbers, next } = this.pages.get(name) ?? { numbers: [] };
      return { messages: numbers.map((n) => message(n)), next: next === undefined ? undefined : idOf(next) };
    },
    drop: async (until: string): Promise<void> => this.#call(`drop ${numberOf(until)}`),
  };

  run(since?: number): Promise<void> {
    const { api, inbox, abort: { signal } } = this;
    return catchUp({ api, inbox, since: since === undefined ? undefined : idOf(since), signal });
  }
}

test("where nothing is missed, nothing is dropped", async () => {
  const world = new World();
  await world.run();
  assert.deepEqual(world.story, ["missed"]);
});

test("missed messages are read page by page, and each page is dropped behind what was given", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [1, 2], next: 2 });
  world.pages.set("after 2", { numbers: [3] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2", "drop 2", "after 2", "give 3", "drop 3"]);
});

test("messages that the application has not accepted are not dropped", async () => {
  const world = new World();
  const taken = new Later<void>();
  world.taking = (n) => (n === 2 ? taken.promise : undefined);
  world.pages.set("missed", { numbers: [1, 2] });
  const run = world.run();
  await settle();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2"]);
  taken.resolve();
  await run;
  assert.equal(world.story.at(-1), "drop 2");
});

test("a resumption reads all and missed messages, and gives both in the order of ids", async () => {
  const world = new World();
  world.pages.set("since 10", { numbers: [12, 14], next: 14 });
  world.pages.set("since 14", { numbers: [16] });
  world.pages.set("missed", { numbers: [5, 14, 15] });
  await world.run(10);
  const expected = ["missed", "since 10", "give 5", "give 12", "give 14", "since 14", "give 15", "drop 15", "give 16"];
  assert.deepEqual(world.story, expected);
  assert.equal(world.inbox.resumePoint, idOf(16));
});

for (const step of ["missed", "after 2", "drop 2", "since 10"]) {
  test(`if "${step}" fails, the catch-up ends and the next one gives the rest`, async () => {
    const world = new World();
    world.failing = step;
    world.pages.set("missed", { numbers: [1, 2], next: 2 });
    world.pages.set("after 2", { numbers: [3] });
    await assert.rejects(world.run(10), { message: step });
    assert.equal(world.story.at(-1), step);
    world.failing = "";
    await world.run(10);
    assert.deepEqual(world.story.filter((line) => line.startsWith("give")), ["give 1", "give 2", "give 3"]);
    assert.equal(world.story.at(-1), "drop 3");
  });
}

test("after its end nothing is given on, nor dropped", async () => {
  const world = new World();
  world.taking = (n) => (n === 1 ? world.abort.abort() : undefined);
  world.pages.set("missed", { numbers: [1, 2, 3] });
  await assert.rejects(world.run(), { name: "AbortError" });
  assert.deepEqual(world.story, ["missed", "give 1"]);
});

test("an empty page that has more is followed, and nothing is dropped for it", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [], next: 10 });
  world.pages.set("after 10", { numbers: [], next: 20 });
  world.pages.set("after 20", { numbers: [21], next: 30 });
  world.pages.set("after 30", { numbers: [] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "after 10", "after 20", "give 21", "drop 21", "after 30"]);
});

test("a page is dropped up to its last message, and the next one begins where the answer says", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [1, 2], next: 10 });
  world.pages.set("after 10", { numbers: [11] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2", "drop 2", "after 10", "give 11", "drop 11"]);
});

test("a resumption follows empty pages too, and does not read them again", async () => {
  const world = new World();
  world.failing = "since 50";
  world.pages.set("since 10", { numbers: [], next: 40 });
  world.pages.set("since 40", { numbers: [41], next: 50 });
  await assert.rejects(world.run(10), { message: "since 50" });
  assert.deepEqual(world.story, ["missed", "since 10", "since 40", "give 41", "since 50"]);
  assert.equal(world.inbox.resumePoint, idOf(50));
});

test("what is missed before an empty page of the resumption is given before what comes after it", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [20, 60] });
  world.pages.set("since 10", { numbers: [15], next: 40 });
  world.pages.set("since 40", { numbers: [], next: 50 });
  world.pages.set("since 50", { numbers: [55] });
  await world.run(10);
  assert.deepEqual(world.story.filter((line) => /give|drop/.test(line)), ["give 15", "give 20", "give 55", "give 60", "drop 60"]);
});
