// The page in a real browser, against a local stack of its own. CHROMIUM: the browser's program (chromium).
// LOCALSTACK: the stack's (target/debug/localstack). SCREENSHOTS: a folder for pictures, if they are wanted.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PROGRAM = process.env.LOCALSTACK ?? fileURLToPath(new URL("../../../target/debug/localstack", import.meta.url));
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const PATIENCE_MS = 20_000;

let stack, browser;
let count = 0;
const newUser = (name, number) => `${name}-${number}`;

async function startStack(options = [], environment = {}) {
  const free = ["--public-port", "--internal-port", "--dynamodb-port"].filter((option) => !options.includes(option));
  const child = spawn(PROGRAM, [...free.flatMap((option) => [option, "0"]), ...options], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [line] = await Promise.race([
    once(createInterface(child.stdout), "line"),
    once(child, "exit").then(() => Promise.reject(new Error("the local stack ended"))),
  ]);
  return { address: /^ready public=(\S+)/.exec(line)[1], stop: () => child.kill("SIGTERM") };
}

before(async () => {
  stack = await startStack();
  // Where the tests are root, Chromium has no sandbox to run in; it opens nothing but this page.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  stack?.stop();
});

/** Tabs of users whose names nobody else has, unless told otherwise; signed in, each with a storage of its own. */
async function tabs(names, options = {}, address = stack.address, userOf = newUser) {
  const number = ++count;
  return Promise.all(
    names.map(async (name) => {
      const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1100, height: 700 }, ...options });
      context.setDefaultTimeout(PATIENCE_MS);
      const page = await context.newPage();
      page.user = userOf(name, number);
      page.complaints = [];
      page.on("pageerror", (error) => page.complaints.push(error.message));
      page.on("console", (line) => line.type() === "error" && page.complaints.push(line.text()));
      await page.goto(address);
      await page.locator("#name").fill(page.user);
      await page.keyboard.press("Enter");
      await online(page);
      return page;
    }),
  );
}

const online = (page) => page.locator("#state[data-state=online]").waitFor();
const chatWith = (page, user) => page.locator("#people button", { hasText: user }).click();
const lines = (page) => page.locator("#log .line");
const heard = (page, text) => page.locator("#log .line", { hasText: text }).waitFor();

async function befriend(page, user) {
  await page.getByPlaceholder("new friend").fill(user);
  await page.keyboard.press("Enter");
  await page.locator("#chat-title", { hasText: user }).waitFor();
}

async function say(page, text) {
  await page.locator("#send textarea").fill(text);
  await page.keyboard.press("Enter");
  await page.locator("#log .line.own", { hasText: text }).filter({ hasNotText: "sending" }).waitFor();
}

async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png` });
}

/** Whether nothing is cut off at the sides of the lists. */
const isWithin = async (page) => {
  const [content, shown] = await page.locator("nav").evaluate((nav) => [nav.scrollWidth, nav.clientWidth]);
  assert(content <= shown, `${content} > ${shown}`);
};

/** What axe finds wrong for people who can't see well, or use no mouse. */
async function isAccessible(page) {
  await page.evaluate(await import("node:fs/promises").then((fs) => fs.readFile(AXE, "utf8")));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(found, []);
}

async function close(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.complaints, [], page.user);
    await page.context().close();
  }
}

test("two users talk", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await say(alice, "hello, bob");
  const badge = bob.locator("#people button", { hasText: alice.user }).getByLabel("1 unread");
  await badge.waitFor();
  await picture(bob, "unread");
  await chatWith(bob, alice.user);
  await heard(bob, "hello, bob");
  assert.equal(await badge.count(), 0);
  await say(bob, "hello, alice");
  await heard(alice, "hello, alice");
  await picture(alice, "talk");
  await close(alice, bob);
});

test("what was sent while one was offline is there when he returns, once, and after a reload", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await say(alice, "before");
  await chatWith(bob, alice.user);
  await heard(bob, "before");
  await bob.getByRole("button", { name: "Go offline" }).click();
  await bob.locator("#state[data-state=closed]").waitFor();
  await say(alice, "meanwhile");
  assert.equal(await lines(bob).count(), 1);
  await bob.getByRole("button", { name: "Go online" }).click();
  await heard(bob, "meanwhile");
  await bob.reload();
  await online(bob);
  await chatWith(bob, alice.user);
  await say(alice, "afterwards");
  await heard(bob, "afterwards");
  const texts = (await lines(bob).allTextContents()).map((text) => text.replace(/^.*\d\d:\d\d/, ""));
  assert.deepEqual(texts, ["before", "meanwhile", "afterwards"]);
  await close(alice, bob);
});

test("an invitation is accepted, and the group talks", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await alice.getByPlaceholder("new group").fill("Walkers");
  await alice.keyboard.press("Enter");
  await alice.getByText("Members and invitations").click();
  for (const guest of [bob, carol]) {
    await alice.getByPlaceholder("whom to invite").fill(guest.user);
    await alice.locator("#invite button").click();
    await alice.getByText(`${guest.user} is invited.`).waitFor();
  }
  await bob.getByText(`${alice.user} invites you to “Walkers”`).waitFor();
  await picture(bob, "invitation");
  await bob.getByRole("button", { name: "Join" }).click();
  await bob.locator("#groups button", { hasText: "Walkers" }).click();
  await carol.getByRole("button", { name: "Decline" }).click();
  await carol.locator("#invited").waitFor({ state: "hidden" });
  await say(alice, "who walks?");
  await heard(bob, "who walks?");
  await say(bob, "I do");
  await heard(alice, "I do");
  await alice.locator("#members li", { hasText: bob.user }).waitFor();
  await picture(alice, "group");
  await isAccessible(alice);

  await alice.getByPlaceholder("new name").fill("Hikers");
  await alice.locator("#rename button").click();
  await bob.locator("#chat-title", { hasText: "Hikers" }).waitFor();
  await alice.getByRole("button", { name: `Remove ${bob.user}` }).click();
  await bob.locator("#groups button").waitFor({ state: "detached" });
  await alice.getByRole("button", { name: "Dissolve group" }).click();
  await alice.locator("#groups button").waitFor({ state: "detached" });
  await close(alice, bob, carol);
});

test("a block is silent, until it is lifted", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await chatWith(bob, alice.user);
  await bob.getByRole("button", { name: "Block", exact: true }).click();
  await bob.locator("#people button", { hasText: "blocked" }).waitFor();
  // It looks sent.
  await say(alice, "can you hear me?");
  await bob.getByRole("button", { name: "Unblock" }).click();
  await bob.getByRole("button", { name: "Block", exact: true }).waitFor();
  await say(alice, "and now?");
  await heard(bob, "and now?");
  assert.equal(await lines(bob).count(), 1);
  assert.equal(await lines(alice).count(), 2);
  assert.equal(await alice.locator("#log .failed").count(), 0);
  await close(alice, bob);
});

test("a tab that is disconnected for a newer one says so, and continues when its user wants it to", async () => {
  const small = await startStack([], { MAX_CONNECTIONS: "1" });
  const [alice, older] = await tabs(["alice", "bob"], {}, small.address);
  await befriend(alice, older.user);
  const [newer] = await tabs([older.user], {}, small.address, (name) => name);
  const told = (page) => page.getByRole("alert").filter({ hasText: "too many tabs or on too many devices" });
  await told(older).waitFor();
  await older.locator("#state[data-state=replaced]").waitFor();
  await isAccessible(older);
  await picture(older, "replaced");
  await older.getByRole("button", { name: "中文" }).click();
  await older.getByRole("button", { name: "在此继续" }).waitFor();
  await older.getByRole("button", { name: "English" }).click();
  // Neither connects by itself, so the newer one stays.
  await older.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await say(alice, "to the newer");
  await chatWith(newer, alice.user);
  await heard(newer, "to the newer");

  await older.getByRole("button", { name: "Continue here" }).click();
  await told(newer).waitFor();
  await online(older);
  await told(older).waitFor({ state: "hidden" });
  await chatWith(older, alice.user);
  await heard(older, "to the newer");
  await say(older, "here again");
  await heard(alice, "here again");
  await newer.locator("#state[data-state=replaced]").waitFor();
  await close(alice, older, newer);
  small.stop();
});

test("a notification arrives", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await alice.getByRole("button", { name: "Send a notification" }).click();
  await bob.getByText(`Notification (greeting): greetings from the back end, asked for by ${alice.user}`).waitFor();
  await picture(bob, "notification");
  await close(alice, bob);
});

test("what people write is text", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  const text = `<img src=x onerror="document.title='owned'"> <b>bold</b>`;
  await say(alice, text);
  await chatWith(bob, alice.user);
  await heard(bob, text);
  assert.equal(await bob.locator("#log img, #log b").count(), 0);
  assert.equal(await bob.title(), `${bob.user} · Chat`);
  await close(alice, bob);
});

test("what goes wrong is said in words", async () => {
  const [alice] = await tabs(["alice"]);
  await befriend(alice, "somebody");
  await alice.getByPlaceholder("new friend").fill(alice.user);
  await alice.keyboard.press("Enter");
  await alice.getByRole("alert").filter({ hasText: "neither befriend nor block himself" }).waitFor();
  await picture(alice, "error");
  // The browser says in its console that it was answered 400.
  alice.complaints.length = 0;
  await close(alice);
});

test("it speaks Chinese", async () => {
  const [alice] = await tabs(["alice"], { locale: "zh-CN" });
  assert.equal(await alice.locator("html").getAttribute("lang"), "zh-CN");
  await alice.getByPlaceholder("新好友").fill("bob");
  await alice.keyboard.press("Enter");
  await alice.getByRole("button", { name: "拉黑" }).waitFor();
  await picture(alice, "chinese");
  await isAccessible(alice);
  await alice.getByRole("button", { name: "English" }).click();
  await alice.getByRole("button", { name: "Block", exact: true }).waitFor();
  await alice.reload();
  assert.equal(await alice.locator("html").getAttribute("lang"), "en");
  await close(alice);
});

test("the keyboard is enough", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  const tabTo = async (page, what) => {
    for (let presses = 0; presses < 40; presses++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((selector) => document.activeElement?.matches(selector), what)) return;
    }
    assert.fail(`the keyboard does not reach ${what}`);
  };
  await bob.locator("#people button").waitFor();
  await tabTo(bob, "#people button");
  await bob.keyboard.press("Enter");
  // Where one writes, at once.
  await bob.keyboard.type("typed");
  await bob.keyboard.press("Enter");
  await heard(alice, "typed");
  await tabTo(bob, "#language");
  await close(alice, bob);
});

for (const colorScheme of ["light", "dark"]) {
  test(`it is accessible, ${colorScheme}`, async () => {
    const [alice, bob] = await tabs(["alice", "bob"], { colorScheme });
    await befriend(alice, bob.user);
    await say(alice, "one");
    await chatWith(bob, alice.user);
    await heard(bob, "one");
    await say(bob, "two");
    await heard(alice, "two");
    await isAccessible(alice);
    await isWithin(alice);
    await picture(alice, colorScheme);
    const door = await alice.context().newPage();
    await door.goto(stack.address);
    await isAccessible(door);
    await picture(door, `door-${colorScheme}`);
    await close(alice, bob);
  });
}

test("it fits a phone", async () => {
  const [alice] = await tabs(["alice"], { viewport: { width: 360, height: 640 }, hasTouch: true });
  await picture(alice, "phone-chats");
  await isAccessible(alice);
  await befriend(alice, "bob-with-a-name-that-is-much-longer-than-any-phone-is-wide-and-has-no-place-to-break");
  await say(alice, "w".repeat(200));
  await picture(alice, "phone-chat");
  await isAccessible(alice);
  const width = await alice.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(width, 360, "nothing sticks out");
  const button = await alice.locator("#toggle").evaluate((node) => node.scrollWidth <= node.clientWidth);
  assert(button, "words fit their buttons");
  await alice.getByRole("button", { name: "Back" }).click();
  await alice.locator("#people button").waitFor();
  assert.equal(await alice.locator("#chat").isVisible(), false);
  await close(alice);
});

test("a server that comes back is connected to again", async () => {
  const first = await startStack();
  const [alice] = await tabs(["alice"], {}, first.address);
  first.stop();
  await alice.locator("#state[data-state=waiting]").waitFor();
  assert.match(await alice.locator("#state").textContent(), /trying again/);
  const second = await startStack(["--public-port", new URL(first.address).port]);
  await online(alice);
  await befriend(alice, "bob");
  await say(alice, "still here");
  second.stop();
  // The browser says in its console what did not answer.
  alice.complaints.length = 0;
  await close(alice);
});
