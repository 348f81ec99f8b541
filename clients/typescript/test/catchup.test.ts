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
  readonly pages = new Map<string, { numbers: number[]; more?: boolean; next?: number }>();
  /** Called for each message that is given. */
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
      const { numbers, more = false, next } = this.pages.get(name) ?? { numbers: [] };
      return { messages: numbers.map((n) => message(n)), more, ...(next === undefined ? {} : { next: idOf(next) }) };
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
  world.pages.set("missed", { numbers: [1, 2], more: true });
  world.pages.set("after 2", { numbers: [3] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2", "drop 2", "after 2", "give 3", "drop 3"]);
});

test("nothing is dropped that the application has not taken", async () => {
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
  world.pages.set("since 10", { numbers: [12, 14], more: true });
  world.pages.set("since 14", { numbers: [16] });
  world.pages.set("missed", { numbers: [5, 14, 15] });
  await world.run(10);
  const expected = ["missed", "since 10", "give 5", "give 12", "give 14", "since 14", "give 15", "drop 15", "give 16"];
  assert.deepEqual(world.story, expected);
  assert.equal(world.inbox.resumePoint, idOf(16));
});

for (const step of ["missed", "after 2", "drop 2", "since 10"]) {
  test(`the failure of "${step}" ends it, and the next time gives the rest`, async () => {
    const world = new World();
    world.failing = step;
    world.pages.set("missed", { numbers: [1, 2], more: true });
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

test("an empty page that says where to go on is followed, and nothing is dropped for it", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [], more: true, next: 4 });
  world.pages.set("after 4", { numbers: [5], more: true, next: 7 });
  world.pages.set("after 7", { numbers: [] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "after 4", "give 5", "drop 5", "after 7"]);
});

test("a page that does not get on ends it, whatever it says of more", async () => {
  for (const next of [undefined, 4]) {
    const world = new World();
    world.pages.set("missed", { numbers: [], more: true, ...(next === undefined ? {} : { next }) });
    world.pages.set("after 4", { numbers: [], more: true, next: 4 });
    await world.run();
    assert.deepEqual(world.story, next === undefined ? ["missed"] : ["missed", "after 4"]);
  }
});
