// Starts a local stack and a browser, and does what users do. CHROMIUM: the program of the browser (/usr/bin/chromium).
// LOCALSTACK: the program of the local stack (target/debug/localstack). SCREENSHOTS: a folder for pictures; without it,
// none are taken. BUILT: if set, the page that `npm run build` has written is tested, and not the embedded one.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const file = (path) => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const PROGRAM = process.env.LOCALSTACK ?? file("target/debug/localstack");
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const PATIENCE_MS = 20_000;

export let stack;
let browser;
let count = 0;

export async function startStack(options = [], environment = {}) {
  const free = ["--public-port", "--internal-port", "--dynamodb-port"].filter((option) => !options.includes(option));
  const child = spawn(PROGRAM, [...free.flatMap((option) => [option, "0"]), ...options], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (log += text));
  const logged = async (text) => {
    while (!log.includes(text)) await once(child.stderr, "data", { signal: AbortSignal.timeout(PATIENCE_MS) });
  };
  const [line] = await Promise.race([
    once(createInterface(child.stdout), "line"),
    once(child, "exit").then(() => Promise.reject(new Error("the local stack ended"))),
  ]);
  const [, address, internal] = /^ready public=(\S+) internal=(\S+)/.exec(line);
  return { address, internal, logged, stop: () => child.kill("SIGTERM") };
}

before(async () => {
  stack = await startStack();
  // As root, Chromium runs only without its sandbox. It opens nothing but this page.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  // To the browser, a page that a test provides is not of this machine.
  if (process.env.BUILT !== undefined) args.push("--disable-features=LocalNetworkAccessChecks");
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(async () => {
  await browser?.close();
  stack?.stop();
});

/** Opens a tab with a storage of its own. `prepare` is called before the page is loaded. */
export async function tab(options = {}, address = stack.address, prepare = async () => {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 1100, height: 700 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  if (process.env.BUILT !== undefined) {
    const source = "clients/page/src";
    const files = { "/": `${source}/index.html`, "/page.css": `${source}/page.css`, "/page.js": "localstack/src/page.js" };
    const isFile = ({ pathname }) => pathname in files;
    await context.route(isFile, async (route) => {
      // With the headers of the local stack, such as its content security policy.
      const response = await route.fetch();
      await route.fulfill({ response, path: file(files[new URL(route.request().url()).pathname]) });
    });
  }
  return load(context, address, prepare);
}

async function load(context, address, prepare) {
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (line) => line.type() === "error" && page.complaints.push(line.text()));
  await prepare(page);
  await page.goto(address);
  return page;
}

/** A name that no other test uses. */
export const newUser = (name) => `${name}-${++count}`;

export async function signIn(page, user) {
  page.user = user;
  await page.locator("#sign-in input").fill(user);
  await page.keyboard.press("Enter");
  await online(page);
  return page;
}

/** Opens a tab for each name, and signs in as new users of these names. */
export const tabs = (names, options, address) =>
  Promise.all(names.map(async (name) => signIn(await tab(options, address), newUser(name))));

/** Opens another tab of a user in the same browser. Its socket can be cut. */
export async function sibling(page, settings = {}) {
  const prepare = (other) => cuttable(Object.assign(other, settings));
  const other = await load(page.context(), new URL(page.url()).origin, prepare);
  return signIn(other, page.user);
}

/** Opens another tab of a user, with a storage of its own, as on another device. */
export const device = async ({ user }, options) => signIn(await tab(options), user);

export const online = (page) => page.locator("#state[data-state=online]").waitFor();
export const line = (page, name) => page.locator(".chat-line", { hasText: name });
export const open = async (page, name) => {
  await line(page, name).click();
  await page.locator("#chat-title", { hasText: name }).waitFor();
};
export const messages = (page) => page.locator("#log .message");
export const heard = (page, text) => page.locator("#log .message", { hasText: text }).last().waitFor();
export const texts = (page) => page.locator("#log .message .text").allTextContents();
export const write = (page, text) => page.locator("#send textarea").fill(text);
export const stored = (page, text) => page.locator("#log .message.own[data-id]", { hasText: text }).last().waitFor();

/** Chooses an action of the menu that this button opens. */
export async function choose(page, button, action) {
  await button.click();
  await page.getByRole("menuitem", { name: action }).click();
}

/** Chooses an action of a message. */
export async function act(page, text, action) {
  const message = messages(page).filter({ hasText: text }).last();
  await message.hover();
  await choose(page, message.locator("[aria-haspopup]"), action);
}

export async function say(page, text) {
  await write(page, text);
  await page.keyboard.press("Enter");
  await stored(page, text);
}

/** Makes two users friends. Both pages then list the other one, and this one shows the chat. */
export async function befriend(page, { user }) {
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByRole("dialog").getByLabel("Their name").fill(user);
  await page.keyboard.press("Enter");
  await page.locator("#chat-title", { hasText: user }).waitFor();
}

/** Creates a group of these users, who accept. Its chat is then open in all pages. */
export async function gather(manager, name, guests) {
  await manager.getByRole("button", { name: "New chat" }).click();
  await manager.getByRole("dialog").getByLabel("Name of the group").fill(name);
  await manager.keyboard.press("Enter");
  await manager.locator("#chat-title", { hasText: name }).waitFor();
  await manager.locator("#chat .below").click();
  for (const guest of guests) {
    await manager.getByLabel("Invite somebody").fill(guest.user);
    await manager.keyboard.press("Enter");
    await guest.getByRole("button", { name: "Join" }).click();
    await guest.locator("#chat-title", { hasText: name }).waitFor();
    await manager.locator("#members li", { hasText: guest.user }).waitFor();
  }
  await closeDialog(manager);
}

export async function closeDialog(page) {
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).first().click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

/** Makes a friend who has no page, by the call of the host application. */
export async function friend(page, name) {
  const user = newUser(name);
  const response = await fetch(`${stack.internal}/relationship/${page.user}/friends/${user}`, { method: "PUT" });
  assert(response.ok);
  return { user, send: (content) => sendAs(user, page.user, content) };
}

/** Sends a message in the name of a user, as a back end does. */
export async function sendAs(from, receiverId, content) {
  const body = JSON.stringify({ from, type: "unicast", receiverId, content });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${stack.internal}/message`, { method: "POST", headers, body });
  assert(response.ok, await response.clone().text());
  return response.json();
}

export async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png` });
}

/** Asserts that axe finds no problem for people who see badly or use no mouse. */
export async function assertAccessible(page) {
  await page.evaluate(await readFile(AXE, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(found, []);
}

/** Asserts that nothing is wider than the screen, and that no text is wider than its button. */
export async function assertFits(page) {
  const wide = await page.evaluate(() => {
    const isWide = (node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).textOverflow !== "ellipsis";
    const parts = document.querySelectorAll("button, .bubble, header, #log, .lists, dialog");
    const nodes = [document.documentElement, ...parts];
    return nodes.filter((node) => node.clientWidth > 0 && isWide(node)).map((node) => node.outerHTML.slice(0, 200));
  });
  assert.deepEqual(wide, []);
}

/** Waits until a condition holds in the page. */
export const until = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: PATIENCE_MS });

/** Cuts the page off from the server, as a lost network does. Its files can still be loaded. Returns the repair. */
export async function cut(page) {
  const context = page.context();
  const refuse = (route) => route.abort("internetdisconnected");
  await context.route(/\/(api|dev)\//, refuse);
  page.isCut = true;
  page.cutSockets?.();
  return async () => {
    page.isCut = false;
    await context.unroute(/\/(api|dev)\//, refuse);
    // The browser logs the calls and handshakes that failed.
    page.complaints.length = 0;
  };
}

/** Cuts only this tab's socket. Returns the repair, which does not wait for the connection. */
export async function cutSocket(page) {
  page.isCut = true;
  page.cutSockets();
  await page.locator("#state[data-state=waiting]").waitFor();
  return () => {
    page.isCut = false;
    return back(page);
  };
}

/** Tells the page that the network is back. It then connects at once. */
export const back = (page) => page.evaluate(() => globalThis.dispatchEvent(new Event("online")));

/** Lets `cut` end the page's sockets. To be passed to `tab`. */
export async function cuttable(page) {
  const open = new Set();
  page.frames = [];
  page.cutSockets = () => open.forEach((socket) => socket.close({ code: 4000 }));
  await page.routeWebSocket(/\/ws$/, (socket) => {
    if (page.isCut) return socket.close({ code: 4000 });
    open.add(socket);
    const server = socket.connectToServer();
    socket.onMessage((frame) => {
      page.frames.push(JSON.parse(frame));
      if (!page.isDeaf) server.send(frame);
    });
    server.onMessage((frame) => {
      if (!page.isMute) socket.send(frame);
    });
  });
}

export async function close(...pages) {
  for (const page of pages) {
    assert.deepEqual(page.complaints, [], page.user);
    await page.context().close();
  }
}

/** A token of a user, signed with a secret. */
export function signed(user, secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp: 4_000_000_000 })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
