// What the page keeps: drafts, messages that are not sent yet, the open chat.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  back, befriend, choose, close, cut, cutSocket, cuttable, heard, line, messages, newUser, online, open, picture, say,
  sibling, signIn, startStack, stored, tab, tabs, texts, until, write,
} from "./support.js";

const menu = (page) => page.locator("#sidebar > header [aria-haspopup]");
const waiting = (page) => page.locator("#log .message.waiting");

/** Opens the pages of two friends, with the chat of each other. The network of the first can be cut. */
async function friends(address) {
  const alice = await signIn(await tab({}, address, cuttable), newUser("alice"));
  const [bob] = await tabs(["bob"], {}, address);
  await befriend(alice, bob);
  await open(bob, alice.user);
  return [alice, bob];
}

/** Changes the kept message of a page, as time does. Returns its requestId. */
const age = (page, minutes) =>
  page.evaluate((ms) => {
    const key = Object.keys(localStorage).find((key) => key.includes("/outbox/"));
    const item = JSON.parse(localStorage.getItem(key));
    localStorage.setItem(key, JSON.stringify({ ...item, sentAt: item.sentAt - ms }));
    return item.requestId;
  }, minutes * 60_000);

/** Lets the page work on a copy of the browser's storage, as if the changes of other tabs came late. */
const seeNoOtherTab = (page) =>
  page.evaluate(() => {
    const methods = {
      getItem(key) {
        return this[key] ?? null;
      },
      setItem(key, value) {
        this[key] = value;
      },
      removeItem(key) {
        delete this[key];
      },
    };
    const copy = Object.assign(Object.create(methods), { ...localStorage });
    Object.defineProperty(globalThis, "localStorage", { value: copy });
  });

const nothingPending = (page) => until(page, () => document.querySelectorAll("#log .pending").length === 0);

test("drafts are kept per chat, and the open chat is remembered", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await befriend(alice, bob);
  await write(alice, "for bob");
  await befriend(alice, carol);
  assert.equal(await alice.locator("#send textarea").inputValue(), "");
  await write(alice, "for carol\nin two lines");
  await line(alice, bob.user).filter({ hasText: "Draft: for bob" }).waitFor();
  await alice.reload();
  await alice.locator("#chat-title", { hasText: carol.user }).waitFor();
  assert.equal(await alice.locator("#send textarea").inputValue(), "for carol\nin two lines");
  await open(alice, bob.user);
  assert.equal(await alice.locator("#send textarea").inputValue(), "for bob");
  await alice.keyboard.press("Enter");
  await stored(alice, "for bob");
  await alice.reload();
  await alice.locator("#chat-title", { hasText: bob.user }).waitFor();
  assert.equal(await alice.locator("#send textarea").inputValue(), "", "a sent draft does not come back");
  await close(alice, bob, carol);
});

test("messages written without a network wait, survive a reload, and arrive once and in order", async () => {
  const [alice, bob] = await friends();
  await say(alice, "before");
  const repair = await cut(alice);
  await alice.locator("#state[data-state=waiting]").waitFor();
  for (const text of ["one", "two", "three"]) {
    await write(alice, text);
    await alice.keyboard.press("Enter");
  }
  await waiting(alice).nth(2).waitFor();
  await picture(alice, "offline");
  await alice.reload();
  await waiting(alice).nth(2).waitFor();
  assert.deepEqual(await texts(alice), ["before", "one", "two", "three"], "a reload shows what the browser has kept");
  await repair();
  await back(alice);
  await online(alice);
  await heard(bob, "three");
  await stored(alice, "three");
  await alice.reload();
  await stored(alice, "three");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["before", "one", "two", "three"]);
  await close(alice, bob);
});

test("a message whose acknowledgement was lost is sent again after a reload, and stored once", async () => {
  const [alice, bob] = await friends();
  alice.isMute = true;
  await write(alice, "only once");
  await alice.keyboard.press("Enter");
  await heard(bob, "only once");
  await alice.reload();
  alice.isMute = false;
  await back(alice);
  await stored(alice, "only once");
  await nothingPending(alice);
  const sent = alice.frames.filter(({ content }) => content === "only once");
  assert(sent.length >= 2 && new Set(sent.map(({ requestId }) => requestId)).size === 1);
  await say(alice, "then another");
  await heard(bob, "then another");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["only once", "then another"]);
  await close(alice, bob);
});

test("after the ten minutes of its requestId, the history tells whether a message was stored", async () => {
  const [alice, bob] = await friends();
  await say(alice, "before");
  // The server stores this one, and its acknowledgement is lost.
  alice.isMute = true;
  await write(alice, "stored");
  await alice.keyboard.press("Enter");
  await heard(bob, "stored");
  alice.isDeaf = true;
  await age(alice, 13);
  alice.frames.length = 0;
  await alice.reload();
  alice.isMute = alice.isDeaf = false;
  await back(alice);
  await stored(alice, "stored");
  await nothingPending(alice);
  const requestIds = (text) => alice.frames.filter(({ content }) => content === text).map(({ requestId }) => requestId);
  // This server has not forgotten the requestId yet. Others would store the message twice.
  assert.deepEqual(requestIds("stored"), []);
  // This one is lost on its way to the server.
  alice.isDeaf = true;
  await write(alice, "lost");
  await alice.keyboard.press("Enter");
  await alice.locator("#log .sending").waitFor();
  const lost = await age(alice, 13);
  await alice.reload();
  alice.isDeaf = false;
  await back(alice);
  await heard(bob, "lost");
  assert.notEqual(requestIds("lost").at(-1), lost);
  await say(alice, "after");
  await heard(bob, "after");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["before", "stored", "lost", "after"]);
  await close(alice, bob);
});

test("another tab of the user sends what a closed one has left, once", async () => {
  const [alice, bob] = await friends();
  const repair = await cut(alice);
  await alice.locator("#state[data-state=waiting]").waitFor();
  await write(alice, "left behind");
  await alice.keyboard.press("Enter");
  await waiting(alice).waitFor();
  await repair();
  const other = await alice.context().newPage();
  other.complaints = [];
  await other.goto(alice.url());
  await signIn(other, alice.user);
  await heard(bob, "left behind");
  await back(alice);
  await online(alice);
  await stored(alice, "left behind");
  await say(alice, "then");
  await heard(bob, "then");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["left behind", "then"]);
  await close(alice, bob);
});

test("two tabs that find a message lost at the same moment send it once", async () => {
  const [alice, bob] = await friends();
  const mine = [alice, await sibling(alice)];
  alice.isDeaf = true;
  await write(alice, "lost");
  await alice.keyboard.press("Enter");
  await alice.locator("#log .sending").waitFor();
  const lost = await age(alice, 13);
  const repairs = await Promise.all(mine.map(cutSocket));
  for (const page of mine) {
    await page.reload();
    await waiting(page).waitFor();
    await seeNoOtherTab(page);
  }
  alice.isDeaf = false;
  // Neither gets the history before both have asked for it.
  let asked = 0;
  let answer;
  const bothAsked = new Promise((resolve) => (answer = resolve));
  await alice.context().route(/\/history\?.*limit=100/, async (route) => {
    const response = await route.fetch();
    if (++asked === 2) answer();
    await bothAsked;
    await route.fulfill({ response });
  });
  for (const repair of repairs) await repair();
  await heard(bob, "lost");
  for (const page of mine) await nothingPending(page);
  await say(alice, "after");
  await heard(bob, "after");
  assert.deepEqual(await texts(bob), ["lost", "after"]);
  const sent = mine.flatMap(({ frames }) => frames.filter(({ content }) => content === "lost"));
  const again = new Set(sent.map(({ requestId }) => requestId).filter((id) => id !== lost));
  assert.equal(again.size, 1);
  await close(...mine, bob);
});

test("a tab asks the history for a message that a closed tab has sent long ago", async () => {
  const [alice, bob] = await friends();
  const repair = await cutSocket(alice);
  await write(alice, "once");
  await alice.keyboard.press("Enter");
  await waiting(alice).waitFor();
  const other = await sibling(alice, { isMute: true });
  await heard(bob, "once");
  await other.close();
  await until(alice, () => Object.values(localStorage).some((value) => value.includes('"sentAt"')));
  await age(alice, 13);
  alice.frames.length = 0;
  await repair();
  await stored(alice, "once");
  await nothingPending(alice);
  assert.deepEqual(alice.frames.filter(({ content }) => content === "once"), []);
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["once"]);
  await close(alice, bob);
});

test("a tab does not send what another tab has deleted unnoticed", async () => {
  const [alice, bob] = await friends();
  const repair = await cutSocket(alice);
  await write(alice, "deleted");
  await alice.keyboard.press("Enter");
  await waiting(alice).waitFor();
  // A tab gets no event of its own changes.
  await alice.evaluate(() => {
    for (const key of Object.keys(localStorage)) if (key.includes("/outbox/")) localStorage.removeItem(key);
  });
  await repair();
  await online(alice);
  await nothingPending(alice);
  await say(alice, "then");
  await heard(bob, "then");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["then"]);
  await close(alice, bob);
});

test("messages sent while a user is offline are shown once, also after a reload", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  await say(alice, "before");
  await open(bob, alice.user);
  await heard(bob, "before");
  await choose(bob, menu(bob), "Go offline");
  await bob.locator("#state[data-state=closed]").waitFor();
  await say(alice, "meanwhile");
  assert.deepEqual(await texts(bob), ["before"]);
  await write(bob, "from offline");
  await bob.keyboard.press("Enter");
  await waiting(bob).waitFor();
  await choose(bob, menu(bob), "Go online");
  await heard(bob, "meanwhile");
  await heard(alice, "from offline");
  await bob.reload();
  await heard(bob, "from offline");
  await say(alice, "afterwards");
  await heard(bob, "afterwards");
  assert.deepEqual(await texts(bob), ["before", "meanwhile", "from offline", "afterwards"]);
  await close(alice, bob);
});

test("the page reconnects when the server is back, and sends what waits", async () => {
  const first = await startStack();
  const [alice, bob] = await tabs(["alice", "bob"], {}, first.address);
  await befriend(alice, bob);
  first.stop();
  await alice.locator("#state[data-state=waiting]").waitFor();
  assert.match(await alice.locator("#state").textContent(), /trying again/);
  await write(alice, "still here");
  await alice.keyboard.press("Enter");
  await waiting(alice).waitFor();
  const second = await startStack(["--public-port", new URL(first.address).port]);
  await back(alice);
  await online(alice);
  await stored(alice, "still here");
  second.stop();
  // The browser logs the calls without an answer.
  alice.complaints.length = bob.complaints.length = 0;
  await close(alice, bob);
});

test("signing out keeps nothing, not even a message that is being sent", async () => {
  const [alice, bob] = await friends();
  alice.isDeaf = true;
  await write(alice, "being sent");
  await alice.keyboard.press("Enter");
  await alice.locator("#log .sending").waitFor();
  await choose(alice, menu(alice), "Sign out");
  await alice.getByRole("alertdialog").getByRole("button", { name: "Sign out" }).click();
  await alice.locator("#sign-in input").waitFor();
  alice.isDeaf = false;
  await signIn(alice, alice.user);
  await open(alice, bob.user);
  await say(alice, "another");
  await heard(bob, "another");
  for (const page of [alice, bob]) assert.deepEqual(await texts(page), ["another"]);
  await close(alice, bob);
});

test("signing out warns of what other tabs have not sent, and signs them out too", async () => {
  const [alice, bob] = await friends();
  const other = await sibling(alice);
  await open(other, bob.user);
  await choose(other, menu(other), "Go offline");
  await other.locator("#state[data-state=closed]").waitFor();
  const writeIn = async (page, text) => {
    await write(page, text);
    await page.keyboard.press("Enter");
    await waiting(page).filter({ hasText: text }).waitFor();
  };
  await writeIn(other, "one");
  const question = alice.getByRole("alertdialog");
  const yes = question.getByRole("button", { name: "Sign out" });
  await choose(alice, menu(alice), "Sign out");
  await question.getByText("One message is not sent yet.").waitFor();
  await writeIn(other, "two");
  await yes.click();
  await question.getByText("2 messages are not sent yet.").waitFor();
  // The other tab may have a dialog open.
  await choose(other, menu(other), "Sign out");
  await other.getByRole("alertdialog").waitFor();
  await yes.click();
  for (const page of [alice, other]) await page.locator("#sign-in input").waitFor();
  await other.getByText("You signed out in another tab.").waitFor();
  const kept = () => [...Object.keys(localStorage), ...Object.keys(sessionStorage)];
  for (const page of [alice, other]) assert.deepEqual(await page.evaluate(kept), []);
  // Nothing of the ended session is left in the other tab.
  await signIn(other, alice.user);
  await open(other, bob.user);
  await say(other, "later");
  await heard(bob, "later");
  for (const page of [other, bob]) assert.deepEqual(await texts(page), ["later"]);
  await close(alice, other, bob);
});

test("a text that is too long is neither cut nor sent", async () => {
  const [alice, bob] = await friends();
  await write(alice, `begin ${"x".repeat(12_000)} end`);
  await alice.keyboard.press("Enter");
  await stored(alice, "begin");
  await heard(bob, "begin");
  const last = messages(bob).last();
  await last.getByRole("button", { name: "Show all" }).click();
  await until(bob, () => document.querySelector("#log .text").textContent.length === 12_010);
  for (const text of ["长".repeat(11_000), "\u0001".repeat(6_000), "x".repeat(34_000)]) {
    await write(alice, text);
    await alice.getByText("Nothing was cut").waitFor();
    await alice.keyboard.press("Enter");
    await alice.getByRole("button", { name: "Send" }).and(alice.locator(":disabled")).waitFor();
    assert.equal(await alice.locator("#send textarea").inputValue(), text);
  }
  assert.equal(await messages(alice).count(), 1);
  await write(alice, "长".repeat(10_000));
  await alice.keyboard.press("Enter");
  await stored(alice, "长长长");
  await heard(bob, "长长长");
  await close(alice, bob);
});
