import assert from "node:assert/strict";
import { test } from "node:test";

import type { ChatError } from "../src/errors.js";
import { createTokens } from "../src/tokens.js";
import { Later } from "./fakes.js";
import { FakeClock, settle } from "./time.js";

/** Tokens with a callback, a clock and an end. */
function tokens(ask: () => string | Promise<string>) {
  const clock = new FakeClock();
  const end = new AbortController();
  return { clock, end, tokens: createTokens({ clock, timing: { requestMs: 1_000 }, signal: () => end.signal }, ask) };
}

/** Counted tokens: `t1`, `t2`, … */
function counted() {
  let count = 0;
  return tokens(async () => `t${++count}`).tokens;
}

test("the current token is requested once", async () => {
  const these = counted();
  assert.equal(await these.current(), "t1");
  assert.equal(await these.current(), "t1");
});

test("a renewed token is the current one", async () => {
  const these = counted();
  assert.equal(await these.current(), "t1");
  assert.equal(await these.renew(), "t2");
  assert.equal(await these.current(), "t2");
});

test("a callback that fails is an error of code token, and is called again", async () => {
  const cause = new Error("the host is away");
  const answers = [() => Promise.reject(cause), () => { throw cause; }, () => "t"];
  const { tokens: these, clock } = tokens(() => answers.shift()!());
  const expected = { name: "ChatError", code: "token", message: "the host is away", cause };
  await assert.rejects(these.current(), expected);
  await assert.rejects(these.current(), expected);
  assert.equal(await these.current(), "t");
  assert.equal(clock.pending, 0);
});

test("a callback that takes too long is an error, and its late answer is ignored", async () => {
  const late = new Later<string>();
  const answers = [late.promise, Promise.resolve("t2")];
  const { tokens: these, clock } = tokens(() => answers.shift()!);
  const asked = assert.rejects(these.current(), { code: "token" });
  await clock.pass(1_000);
  await asked;
  assert.equal(await these.current(), "t2");
  late.resolve("t1");
  await settle();
  assert.equal(await these.current(), "t2");
});

test("the failure of an old renewal keeps a newer token", async () => {
  const first = new Later<string>();
  const answers = [first.promise, Promise.resolve("t2")];
  const { tokens: these } = tokens(() => answers.shift()!);
  const failed = assert.rejects(these.renew());
  assert.equal(await these.renew(), "t2");
  first.reject(new Error("late"));
  await failed;
  assert.equal(await these.current(), "t2");
});

test("a wait that begins after the abort ends too", async () => {
  const { tokens: these, clock, end } = tokens(() => new Later<string>().promise);
  end.abort();
  const failed = assert.rejects(these.current(), { code: "token" });
  await clock.pass(30_000);
  await failed;
});

test("no timer is left after the abort", async () => {
  const { tokens: these, clock, end } = tokens(() => new Later<string>().promise);
  const failed = assert.rejects(these.current(), { code: "token" });
  await settle();
  assert.equal(clock.pending, 1);
  end.abort();
  await failed;
  assert.equal(clock.pending, 0);
});

for (const [what, answer, text] of [
  ["no token", undefined, /no token/],
  ["an empty text", "", /no token/],
  ["an object", { token: "t" }, /the JWT alone/],
  ["a header", "Bearer t", /leave out Bearer/],
  ["a text with a line break", "t\n", /quotes and spaces/],
] as const) {
  test(`${what} is named as the mistake`, async () => {
    const { signal } = new AbortController();
    const settings = { clock: new FakeClock(), timing: { requestMs: 100 }, signal: () => signal };
    const tokens = createTokens(settings, () => answer as string);
    await assert.rejects(tokens.current(), (error: ChatError) => error.code === "token" && text.test(error.message));
  });
}
