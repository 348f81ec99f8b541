import assert from "node:assert/strict";
import { test } from "node:test";

import type { Page, PullOptions } from "../src/api.js";
import { catchUp } from "../src/catchup.js";
import { ChatError } from "../src/errors.js";
import { createInbox } from "../src/inbox.js";
import type { Version } from "../src/protocol.js";
import { DEFAULT_TIMING } from "../src/timing.js";
import { idOf, Later, message, recall } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

const numberOf = (id: string) => [...Array(100).keys()].find((n) => idOf(n) === id);

/** A server with given pages, an inbox, and a record of the calls and deliveries in their order. */
class World {
  readonly story: string[] = [];
  readonly abort = new AbortController();
  /** The pages by the call that returns them: `missed`, `after 2`, `since 2`. The token of a page is this text. */
  readonly pages = new Map<string, { numbers: number[]; recalls?: [n: number, at: number][]; next?: number }>();
  /** Whether pages have tokens. Those of an older server have none. */
  hasTokens = true;
  /** Called for each delivered message. */
  taking: (n: number) => Promise<void> | void = () => {};
  /** The call that fails. */
  failing = "";
  failure: Error = new Error("it fails");
  readonly #timing = { ...DEFAULT_TIMING, overlapMs: 0 };
  readonly inbox = createInbox({ timing: this.#timing, clock: new FakeClock() }, 100, async (one) => {
    const n = numberOf(one.id)!;
    this.story.push(`${one.type === "RECALLED" ? "recall" : "give"} ${n}`);
    await this.taking(n);
  });

  #call(name: string): void {
    this.story.push(name);
    if (name === this.failing) throw this.failure;
  }

  readonly api = {
    pull: async ({ after, since, recalls: withRecalls }: PullOptions = {}): Promise<Page> => {
      let name = "missed";
      if (after !== undefined) name = `after ${numberOf(after)}`;
      if (since !== undefined) name = `since ${numberOf(since)}`;
      this.#call(name);
      const { numbers, recalls = [], next } = this.pages.get(name) ?? { numbers: [] };
      const hasToken = this.hasTokens && since === undefined && (numbers.length > 0 || next !== undefined);
      return {
        messages: numbers.map((n) => message(n)),
        recalls: withRecalls === true ? recalls.map(([n, at]) => recall(n, at)) : [],
        next: next === undefined ? undefined : idOf(next),
        token: hasToken ? name : undefined,
      };
    },
    drop: async (tokens: readonly string[]): Promise<void> => this.#call(`drop ${tokens.join(", ")}`),
  };

  run(since?: number, version: Version = 2): Promise<void> {
    const { api, inbox, abort: { signal } } = this;
    return catchUp(api, inbox, since === undefined ? undefined : idOf(since), version, signal);
  }
}

test("without missed messages nothing is dropped", async () => {
  const world = new World();
  await world.run();
  assert.deepEqual(world.story, ["missed"]);
});

test("each page is dropped by its token after its messages are given", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [1, 2], next: 10 });
  world.pages.set("after 10", { numbers: [11] });
  await world.run();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2", "drop missed", "after 10", "give 11", "drop after 10"]);
});

test("a page is not dropped before the application accepts all its messages", async () => {
  const world = new World();
  const taken = new Later<void>();
  world.taking = (n) => (n === 2 ? taken.promise : undefined);
  world.pages.set("missed", { numbers: [1, 2] });
  const run = world.run();
  await settle();
  assert.deepEqual(world.story, ["missed", "give 1", "give 2"]);
  taken.resolve();
  await run;
  assert.equal(world.story.at(-1), "drop missed");
});

test("empty pages are dropped in one call with the next page that has messages", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [], next: 10 });
  world.pages.set("after 10", { numbers: [], next: 20 });
  world.pages.set("after 20", { numbers: [21], next: 30 });
  world.pages.set("after 30", { numbers: [31] });
  await world.run();
  assert.deepEqual(world.story, [
    "missed", "after 10", "after 20", "give 21", "drop missed, after 10, after 20",
    "after 30", "give 31", "drop after 30",
  ]);
});

test("empty pages at the end are dropped with the last page", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [1], next: 10 });
  world.pages.set("after 10", { numbers: [], next: 20 });
  world.pages.set("after 20", { numbers: [], next: 30 });
  await world.run();
  assert.deepEqual(world.story, [
    "missed", "give 1", "drop missed", "after 10", "after 20", "after 30", "drop after 10, after 20",
  ]);
});

test("one call drops at most 20 pages, and calls keep the order of the pulls", async () => {
  const world = new World();
  const names = Array.from({ length: 45 }, (_, n) => (n === 0 ? "missed" : `after ${n}`));
  for (const [n, name] of names.entries()) world.pages.set(name, { numbers: [], next: n + 1 });
  await world.run();
  const drops = world.story.filter((line) => line.startsWith("drop"));
  const parts = [names.slice(0, 20), names.slice(20, 40), names.slice(40)];
  assert.deepEqual(drops, parts.map((part) => `drop ${part.join(", ")}`));
  assert.deepEqual(world.story.slice(18, 22), ["after 18", "after 19", drops[0], "after 20"]);
});

test("pages without a token are given and not dropped", async () => {
  const world = new World();
  world.hasTokens = false;
  world.pages.set("missed", { numbers: [1], next: 1 });
  world.pages.set("after 1", { numbers: [], next: 10 });
  world.pages.set("after 10", { numbers: [11] });
  const expected = ["missed", "give 1", "after 1", "after 10", "give 11"];
  await world.run();
  assert.deepEqual(world.story, expected);
  await world.run();
  assert.deepEqual(world.story, [...expected, "missed", "after 1", "after 10"], "and repeats are not given");
});

for (const status of [403, 409]) {
  test(`after a drop refused with ${status} the catch-up goes on, and the next one drops the page`, async () => {
    const world = new World();
    world.failing = "drop missed";
    world.failure = new ChatError("forbidden", "refused", { status });
    world.pages.set("missed", { numbers: [1], next: 1 });
    world.pages.set("after 1", { numbers: [2] });
    await world.run();
    assert.deepEqual(world.story, ["missed", "give 1", "drop missed", "after 1", "give 2", "drop after 1"]);
    world.story.length = 0;
    world.failing = "";
    world.pages.set("missed", { numbers: [1] });
    await world.run();
    assert.deepEqual(world.story, ["missed", "drop missed"]);
  });
}

test("a resumption reads missed messages and all messages, and gives both in the order of ids", async () => {
  const world = new World();
  world.pages.set("since 10", { numbers: [12, 14], next: 14 });
  world.pages.set("since 14", { numbers: [16] });
  world.pages.set("missed", { numbers: [5, 14, 15] });
  await world.run(10);
  assert.deepEqual(world.story, [
    "missed", "since 10", "give 5", "give 12", "give 14", "since 14", "give 15", "drop missed", "give 16",
  ]);
  assert.equal(world.inbox.resumePoint, idOf(16));
});

for (const step of ["missed", "after 2", "drop missed", "since 10"]) {
  test(`if "${step}" fails, the catch-up ends, and the next one gives the rest`, async () => {
    const world = new World();
    world.failing = step;
    world.pages.set("missed", { numbers: [1, 2], next: 2 });
    world.pages.set("after 2", { numbers: [3] });
    await assert.rejects(world.run(10), world.failure);
    assert.equal(world.story.at(-1), step);
    world.failing = "";
    await world.run(10);
    assert.deepEqual(world.story.filter((line) => line.startsWith("give")), ["give 1", "give 2", "give 3"]);
    assert.equal(world.story.at(-1), "drop after 2");
  });
}

test("a resumption gives recalls in their places", async () => {
  const world = new World();
  world.pages.set("since 10", { numbers: [12, 16], recalls: [[12, 18], [5, 14]], next: 18 });
  world.pages.set("since 18", { numbers: [], recalls: [[3, 20]] });
  world.pages.set("missed", { numbers: [15, 19] });
  await world.run(10);
  const given = world.story.filter((line) => /give|recall/.test(line));
  assert.deepEqual(given, ["give 12", "recall 5", "give 15", "give 16", "recall 12", "give 19", "recall 3"]);
  assert.equal(world.inbox.resumePoint, idOf(20));
});

test("recalls are not asked for in version 1", async () => {
  const world = new World();
  world.pages.set("since 10", { numbers: [12], recalls: [[5, 14]] });
  await world.run(10, 1);
  assert.deepEqual(world.story, ["missed", "since 10", "give 12"]);
});

test("after the abort nothing is given or dropped", async () => {
  const world = new World();
  world.taking = (n) => (n === 1 ? world.abort.abort() : undefined);
  world.pages.set("missed", { numbers: [1, 2, 3] });
  await assert.rejects(world.run(), { code: "closed" });
  assert.deepEqual(world.story, ["missed", "give 1"]);
});

test("a resumption continues after empty pages and does not read them again", async () => {
  const world = new World();
  world.failing = "since 50";
  world.pages.set("since 10", { numbers: [], next: 40 });
  world.pages.set("since 40", { numbers: [41], next: 50 });
  await assert.rejects(world.run(10), world.failure);
  assert.deepEqual(world.story, ["missed", "since 10", "since 40", "give 41", "since 50"]);
  assert.equal(world.inbox.resumePoint, idOf(50));
});

test("empty pages of a resumption keep the order of ids", async () => {
  const world = new World();
  world.pages.set("missed", { numbers: [20, 60] });
  world.pages.set("since 10", { numbers: [15], next: 40 });
  world.pages.set("since 40", { numbers: [], next: 50 });
  world.pages.set("since 50", { numbers: [55] });
  await world.run(10);
  const given = world.story.filter((line) => /give|drop/.test(line));
  assert.deepEqual(given, ["give 15", "give 20", "give 55", "give 60", "drop missed"]);
});
