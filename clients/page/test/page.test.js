// The page in a real browser, against a local stack of its own. CHROMIUM: the program of the browser
// (/usr/bin/chromium). LOCALSTACK: the program of the local stack (target/debug/localstack). SCREENSHOTS: a folder for
// pictures. Without it, none are taken.
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
  // As root, Chromium runs only without its sandbox. It opens nothing but this page.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  stack?.stop();
});

/** Opens a tab for each name, with a storage of its own, and signs in. By default no other test has the same users. */
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

/** Asserts that the lists are not wider than their place. */
const assertListsFit = async (page) => {
  const [content, shown] = await page.locator("nav").evaluate((nav) => [nav.scrollWidth, nav.clientWidth]);
  assert(content <= shown, `${content} > ${shown}`);
};

/** Asserts that axe finds no problem for people who see badly or use no mouse. */
async function assertAccessible(page) {
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

test("two users chat", async () => {
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

test("messages sent while a user is offline are shown once, also after a reload", async () => {
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

test("an invitation is accepted, and the group chats", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await alice.getByPlaceholder("new group").fill("Walkers");
  await alice.keyboard.press("Enter");
  await alice.getByText("Members and invitations").click();
  for (const guest of [bob, carol]) {
    await alice.getByPlaceholder("user to invite").fill(guest.user);
    await alice.locator("#invite button").click();
    await alice.getByText(`You invited ${guest.user}.`).waitFor();
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
  await assertAccessible(alice);

  await alice.getByPlaceholder("new name").fill("Hikers");
  await alice.locator("#rename button").click();
  await bob.locator("#chat-title", { hasText: "Hikers" }).waitFor();
  await alice.getByRole("button", { name: `Remove ${bob.user}` }).click();
  await bob.locator("#groups button").waitFor({ state: "detached" });
  await alice.getByRole("button", { name: "Dissolve group" }).click();
  await alice.locator("#groups button").waitFor({ state: "detached" });
  await close(alice, bob, carol);
});

test("a block is invisible to the sender, and ends with the unblock", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await chatWith(bob, alice.user);
  await bob.getByRole("button", { name: "Block", exact: true }).click();
  await bob.locator("#people button", { hasText: "blocked" }).waitFor();
  // To the blocked user the message looks sent.
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

test("a tab replaced by a newer one says so, and reconnects only when told", async () => {
  const small = await startStack([], { MAX_CONNECTIONS: "1" });
  const [alice, older] = await tabs(["alice", "bob"], {}, small.address);
  await befriend(alice, older.user);
  const [newer] = await tabs([older.user], {}, small.address, (name) => name);
  const warning = (page) => page.getByRole("alert").filter({ hasText: "too many tabs or on too many devices" });
  await warning(older).waitFor();
  await older.locator("#state[data-state=replaced]").waitFor();
  await assertAccessible(older);
  await picture(older, "replaced");
  await older.getByRole("button", { name: "中文" }).click();
  await older.getByRole("button", { name: "在此继续" }).waitFor();
  await older.getByRole("button", { name: "English" }).click();
  // The older tab does not connect by itself, so the newer one stays connected.
  await older.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await say(alice, "to the newer");
  await chatWith(newer, alice.user);
  await heard(newer, "to the newer");

  await older.getByRole("button", { name: "Continue here" }).click();
  await warning(newer).waitFor();
  await online(older);
  await warning(older).waitFor({ state: "hidden" });
  await chatWith(older, alice.user);
  await heard(older, "to the newer");
  await say(older, "here again");
  await heard(alice, "here again");
  await newer.locator("#state[data-state=replaced]").waitFor();
  await close(alice, older, newer);
  small.stop();
});

test("a notification is shown", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob.user);
  await alice.getByRole("button", { name: "Send a notification" }).click();
  await bob.getByText(`Notification (greeting): ${alice.user} asked the back end to send this greeting.`).waitFor();
  await picture(bob, "notification");
  await close(alice, bob);
});

test("HTML in a message is shown as text", async () => {
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

test("the error of a call is shown", async () => {
  const [alice] = await tabs(["alice"]);
  await befriend(alice, "somebody");
  await alice.getByPlaceholder("new friend").fill(alice.user);
  await alice.keyboard.press("Enter");
  await alice.getByRole("alert").filter({ hasText: "neither befriend nor block" }).waitFor();
  await picture(alice, "error");
  // The browser logs the answer 400.
  alice.complaints.length = 0;
  await close(alice);
});

test("without tokens the page says what to do", async () => {
  const other = await startStack([], { JWT_SECRET: "the-secret-of-the-tests-of-the-page" });
  const context = await browser.newContext({ locale: "en-GB" });
  const page = await context.newPage();
  await page.goto(other.address);
  await page.locator("#name").fill("alice");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "start the local stack without a JWT_SECRET" }).waitFor();
  await context.close();
  other.stop();
});

test("the page has Chinese texts, and remembers the language", async () => {
  const [alice] = await tabs(["alice"], { locale: "zh-CN" });
  assert.equal(await alice.locator("html").getAttribute("lang"), "zh-CN");
  await alice.getByPlaceholder("新好友").fill("bob");
  await alice.keyboard.press("Enter");
  await alice.getByRole("button", { name: "拉黑" }).waitFor();
  await picture(alice, "chinese");
  await assertAccessible(alice);
  await alice.getByRole("button", { name: "English" }).click();
  await alice.getByRole("button", { name: "Block", exact: true }).waitFor();
  await alice.reload();
  assert.equal(await alice.locator("html").getAttribute("lang"), "en");
  await close(alice);
});

test("the keyboard reaches everything that a chat needs", async () => {
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
  // The focus is then in the message field.
  await bob.keyboard.type("typed");
  await bob.keyboard.press("Enter");
  await heard(alice, "typed");
  await tabTo(bob, "#language");
  await close(alice, bob);
});

for (const colorScheme of ["light", "dark"]) {
  test(`the page is accessible (${colorScheme})`, async () => {
    const [alice, bob] = await tabs(["alice", "bob"], { colorScheme });
    await befriend(alice, bob.user);
    await say(alice, "one");
    await chatWith(bob, alice.user);
    await heard(bob, "one");
    await say(bob, "two");
    await heard(alice, "two");
    await assertAccessible(alice);
    await assertListsFit(alice);
    await picture(alice, colorScheme);
    const another = await alice.context().newPage();
    await another.goto(stack.address);
    await assertAccessible(another);
    await picture(another, `sign-in-${colorScheme}`);
    await close(alice, bob);
  });
}

test("the page fits a phone", async () => {
  const [alice] = await tabs(["alice"], { viewport: { width: 360, height: 640 }, hasTouch: true });
  await picture(alice, "phone-chats");
  await assertAccessible(alice);
  await befriend(alice, "bob-with-a-name-that-is-much-longer-than-any-phone-is-wide-and-has-no-place-to-break");
  await say(alice, "w".repeat(200));
  await picture(alice, "phone-chat");
  await assertAccessible(alice);
  const width = await alice.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(width, 360, "the page is not wider than the screen");
  const button = await alice.locator("#toggle").evaluate((node) => node.scrollWidth <= node.clientWidth);
  assert(button, "the text fits its button");
  await alice.getByRole("button", { name: "Back" }).click();
  await alice.locator("#people button").waitFor();
  assert.equal(await alice.locator("#chat").isVisible(), false);
  await close(alice);
});

test("the page reconnects when the server is back", async () => {
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
  // The browser logs the calls without an answer.
  alice.complaints.length = 0;
  await close(alice);
});
