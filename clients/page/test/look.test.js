// What the page looks like, to all people and on all screens, and how fast it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  act, assertAccessible, assertFits, befriend, choose, close, friend, heard, line, messages, newUser,
  online, open, picture, say, signIn, stored, tab, tabs, texts, until, write,
} from "./support.js";

const log = (page) => page.locator("#log");
const scrollTo = (page, top) => log(page).evaluate((node, to) => (node.scrollTop = to), top);
const topOf = (page, id) => page.locator(`[data-id="${id}"]`).evaluate((node) => node.getBoundingClientRect().top);

/**
 * The longest time that the page computes for a step of something, and for what is then drawn, in milliseconds of
 * processor time: other programs may run meanwhile. A step is given its number, and returns whether there are more.
 */
const longestStep = async (page, step) => {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const now = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return 1_000 * metrics.find(({ name }) => name === "TaskDuration").value;
  };
  const times = [await now()];
  for (let hasMore = true; hasMore; times.push(await now())) {
    hasMore = await page.evaluate(`new Promise((drawn) => {
      const hasMore = (${step})(${times.length});
      requestAnimationFrame(() => drawn(hasMore));
    })`);
  }
  await session.detach();
  return Math.max(...times.slice(1).map((time, index) => time - times[index]));
};

/** Opens a chat where the new messages begin, and reads on to the last one, which begins so. */
const readToEnd = async (page, user, last) => {
  await open(page, user);
  await page.locator(".first-new").waitFor();
  await page.getByRole("button", { name: "Jump to" }).click();
  await heard(page, last);
  await until(page, () => document.querySelector(".unread") === null);
};

/** Returns a page that shows the end of a chat of some screens, all read. */
const atEndOfChat = async () => {
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  for (let number = 0; number < 30; number++) await bob.send(`${number}: ${"word ".repeat(60)}`);
  await readToEnd(alice, bob.user, "29:");
  return alice;
};

for (const [colorScheme, locale, reply] of [["light", "en-GB", "Reply"], ["dark", "zh-CN", "回复"]]) {
  test(`the page is accessible (${colorScheme}, ${locale})`, async () => {
    const name = `${colorScheme}-${locale}`;
    const alice = await tab({ colorScheme, locale });
    await assertAccessible(alice);
    await picture(alice, `sign-in-${name}`);
    await signIn(alice, newUser("alice"));
    await alice.locator("#no-chats").waitFor();
    await assertAccessible(alice);
    await picture(alice, `empty-${name}`);
    const bob = await friend(alice, "bob");
    await bob.send("Look at https://example.com/cat.png");
    await bob.send({ text: "😀", quote: { id: "01", senderId: "carol", text: "quoted" } });
    await bob.send({ order: 7 });
    await open(alice, bob.user);
    await write(alice, "A draft");
    await alice.keyboard.press("Enter");
    await alice.locator("#log .message.own[data-id]").waitFor();
    await act(alice, "Look", reply);
    await assertAccessible(alice);
    await picture(alice, `talk-${name}`);
    await alice.emulateMedia({ colorScheme: colorScheme === "light" ? "dark" : "light" });
    await assertAccessible(alice);
    await alice.emulateMedia({ colorScheme });
    await alice.locator("#sidebar > header > .icon-button").first().click();
    await assertAccessible(alice);
    await alice.getByRole("dialog").locator("input").last().fill("Walkers");
    await alice.keyboard.press("Enter");
    await alice.locator("#chat .below").click();
    await alice.locator("#members li").waitFor();
    await assertAccessible(alice);
    await alice.locator("dialog .dangerous").click();
    await alice.getByRole("alertdialog").waitFor();
    await assertAccessible(alice);
    await picture(alice, `question-${name}`);
    await close(alice);
  });
}

for (const width of [320, 360, 1280, 3840]) {
  test(`the page fits a screen of ${width} pixels`, async () => {
    const height = width < 700 ? 640 : Math.round((width * 9) / 16);
    const alice = await tab({ viewport: { width, height }, hasTouch: width < 700 });
    await assertFits(alice);
    await signIn(alice, newUser("alice-with-a-name-that-is-longer-than-any-phone-is-wide"));
    await assertFits(alice);
    const bob = await friend(alice, "bob-with-a-name-that-is-longer-than-any-phone-is-wide-and-has-no-place-to-break");
    for (const text of ["short", "w".repeat(300), `https://example.com/${"path".repeat(60)}`, "Z̷̢̛".repeat(80)]) {
      await bob.send(text);
    }
    await bob.send({ deep: [[[{ json: "j".repeat(200) }]]] });
    await line(alice, "bob").waitFor();
    await picture(alice, `list-${width}`);
    await assertFits(alice);
    await open(alice, bob.user);
    await write(alice, "an answer");
    await alice.getByRole("button", { name: "Send" }).click();
    await stored(alice, "an answer");
    await assertFits(alice);
    await picture(alice, `chat-${width}`);
    const header = await alice.locator("#chat > header").boundingBox();
    assert(header.height <= 60, `the header takes ${header.height} of ${height} pixels`);
    const last = await messages(alice).last().boundingBox();
    const field = await alice.locator("#send").boundingBox();
    const gap = field.y - last.y - last.height;
    assert(gap >= 8 && gap <= 24, `${gap} pixels between the last message and the field`);
    if (width < 700) {
      assert.equal(await alice.locator("#sidebar").isVisible(), false);
      await alice.goBack();
      await line(alice, "bob").waitFor();
      await open(alice, bob.user);
      await alice.getByRole("button", { name: "Back to the chats" }).click();
      await line(alice, "bob").waitFor();
      assert.equal(await alice.locator("#chat").isVisible(), false);
    }
    await choose(alice, alice.locator("#sidebar > header [aria-haspopup]"), "中文");
    await assertFits(alice);
    await close(alice);
  });
}

test("the page remembers the language and the theme", async () => {
  const [alice] = await tabs(["alice"]);
  const menu = alice.locator("#sidebar > header [aria-haspopup]");
  await choose(alice, menu, "中文");
  await alice.getByText("你还没有会话").waitFor();
  await choose(alice, menu, "浅色");
  await choose(alice, menu, "深色");
  await alice.reload();
  await online(alice);
  assert.equal(await alice.locator("html").getAttribute("lang"), "zh-CN");
  assert.equal(await alice.evaluate(() => getComputedStyle(document.body).colorScheme), "dark");
  await close(alice);
});

test("nothing in a message is more than text, or a link of http or https", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  const html = `<img src=x onerror="document.title='owned'"> <b>bold</b> <script>document.title='owned'</script>`;
  const links =
    "javascript:alert(1) data:text/html,x vbscript:x file:///etc/passwd JAVASCRIPT://%0aalert(1) " +
    "https://example.com/a_(b), (http://example.org/?q=1&r=2). https://a\u202egnp.example https://中文 https://[bad";
  await say(alice, html);
  await say(alice, links);
  for (const content of [
    { text: { not: "a text" } }, { text: "kept", quote: "not a quote" },
    { text: "", quote: { id: "x", senderId: html, text: html } }, [], "", 0, false, { constructor: 1 },
    "\u202ereversed", "\u0000", JSON.parse(`${"[".repeat(40)}${"]".repeat(40)}`),
  ]) {
    const body = JSON.stringify({ type: "unicast", receiverId: bob.user, content });
    const token = await (await alice.request.get(new URL(`/dev/token?user=${alice.user}`, alice.url()).href)).text();
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const answer = await fetch(new URL("/api/message", alice.url()), { method: "POST", headers, body });
    assert(answer.ok, await answer.text());
  }
  await open(bob, alice.user);
  await until(bob, () => document.querySelectorAll("#log .message").length === 13);
  const found = await bob.locator("#log a").evaluateAll((all) => all.map((link) => [link.href, link.rel, link.target]));
  const safe = (href) => [href, "noopener noreferrer nofollow", "_blank"];
  assert.deepEqual(found, [
    safe("https://example.com/a_(b)"), safe("http://example.org/?q=1&r=2"), safe("https://a/"),
  ]);
  assert.equal(await bob.locator("#log img, #log b, #log script, #log iframe").count(), 0);
  assert.equal((await texts(bob))[0], html);
  assert.match(await bob.title(), new RegExp(`${bob.user} · Chat$`));
  await close(alice, bob);
});

test("a picture is loaded only on a click", async () => {
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  let loads = 0;
  const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
  await alice.context().route("https://pictures.example/**", (route) => {
    loads += 1;
    assert.equal(route.request().headers().referer, undefined);
    return route.fulfill({ contentType: "image/png", body: Buffer.from(pixel, "base64") });
  });
  await bob.send("the cat: https://pictures.example/cat.png?size=big and https://pictures.example/page");
  await open(alice, bob.user);
  const button = alice.getByRole("button", { name: "Show the picture from pictures.example" });
  await button.waitFor();
  assert.equal(loads, 0);
  await button.click();
  await until(alice, () => document.querySelector("#log img")?.naturalWidth === 1);
  assert.equal(loads, 1);
  await close(alice);
});

test("emoji alone are large", async () => {
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  const large = ["😀", "👩‍👩‍👧‍👦 👍🏽", "🇨🇭❤️1️⃣"];
  const small = ["123", "😀 hello", "😀😀😀😀", "#", "*"];
  for (const text of [...large, ...small]) await bob.send(text);
  await open(alice, bob.user);
  await heard(alice, "*");
  const drawn = await alice.locator("#log .text.large").allTextContents();
  assert.deepEqual(drawn, large);
  await close(alice);
});

test("old messages have full dates", async () => {
  const alice = await tab({ timezoneId: "UTC" });
  await signIn(alice, newUser("alice"));
  const bob = await friend(alice, "bob");
  await bob.send("hello");
  await open(alice, bob.user);
  await alice.getByRole("heading", { name: "Today" }).waitFor();
  const { id } = await bob.send("again");
  await alice.clock.install({ time: Date.now() + 5 * 86_400_000 });
  await alice.reload();
  const day = new Intl.DateTimeFormat("en-GB", { weekday: "long", day: "numeric", month: "long", timeZone: "UTC" });
  await alice.getByRole("heading", { name: day.format(Date.now()) }).waitFor();
  const title = await alice.locator(`[data-id="${id}"] time`).getAttribute("title");
  assert.match(title, /^\d+ \w+ \d{4} at \d\d:\d\d$/);
  await close(alice);
});

test("older messages load without a jump, and new ones do not move what is read", async () => {
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  for (let number = 0; number < 140; number++) await bob.send(`${number}: ${"word ".repeat(number % 60)}`);
  await readToEnd(alice, bob.user, "139:");
  // From now on the page knows the end of the chat only.
  await alice.reload();
  await heard(alice, "139:");
  await alice.locator("#log .older").waitFor({ state: "attached" });
  // Not near the start, so nothing is loaded yet.
  await scrollTo(alice, 1_600);
  const anchor = await (await until(alice, () => {
    const log = document.querySelector("#log");
    const { top, bottom } = log.getBoundingClientRect();
    const isShown = (box) => box.top > top && box.bottom < bottom;
    const all = [...log.querySelectorAll("[data-id]")];
    return all.find((message) => isShown(message.getBoundingClientRect()))?.dataset.id;
  })).jsonValue();
  assert.equal(await alice.locator("#log .older").count(), 1);
  await scrollTo(alice, 1_400);
  const before = await topOf(alice, anchor);
  await until(alice, () => document.querySelector("#log .older") === null);
  const after = await topOf(alice, anchor);
  assert(Math.abs(after - before) <= 2, `${before} became ${after}`);

  await bob.send("something new");
  const jump = alice.getByRole("button", { name: "Jump to 1 new message" });
  await jump.waitFor();
  assert(Math.abs((await topOf(alice, anchor)) - before) <= 2);
  await picture(alice, "jump");
  await jump.click();
  await heard(alice, "something new");
  await jump.waitFor({ state: "detached" });
  await until(alice, () => document.querySelector(".unread") === null);
  await close(alice);
});

test("a scroll holds, also if something is drawn before the browser tells of it", async () => {
  const alice = await atEndOfChat();
  const scrolledAndDrawn = (by) =>
    log(alice).evaluate(async (node, by) => {
      const frame = () => new Promise(requestAnimationFrame);
      const to = node.scrollTop + by;
      node.scrollTop = to;
      node.querySelector(".bubble").append(document.createComment("drawn"));
      await frame();
      await frame();
      return node.scrollTop - to;
    }, by);
  // From the end, and from elsewhere.
  assert.equal(await scrolledAndDrawn(-600), 0);
  assert.equal(await scrolledAndDrawn(-200), 0);
  assert.equal(await scrolledAndDrawn(100), 0);
  await close(alice);
});

test("what is read near the end stays where it is when something above it becomes shorter", async () => {
  const alice = await atEndOfChat();
  const moved = await log(alice).evaluate(async (node) => {
    const frame = () => new Promise(requestAnimationFrame);
    node.scrollTop -= 100;
    await frame();
    await frame();
    const { top } = node.getBoundingClientRect();
    const all = [...node.querySelectorAll("[data-id]")];
    const first = all.findIndex((message) => message.getBoundingClientRect().top > top);
    const before = all[first].getBoundingClientRect().top;
    // More than what is left below, so the browser scrolls too.
    for (const message of all.slice(first - 5, first - 1)) message.style.display = "none";
    await frame();
    await frame();
    return all[first].getBoundingClientRect().top - before;
  });
  assert(Math.abs(moved) <= 2, `moved by ${moved}`);
  await close(alice);
});

test("a chat of 10,000 messages stays fast", async () => {
  const total = 10_000;
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  await alice.context().route(/\/api\/history/, (route) => {
    const query = new URL(route.request().url()).searchParams;
    const [before, limit] = [Number(query.get("before") ?? total), Number(query.get("limit"))];
    const from = Math.max(0, before - limit);
    const page = Array.from({ length: before - from }, (_, index) => {
      const number = from + index;
      const [senderId, receiverId] = number % 3 ? [alice.user, bob.user] : [bob.user, alice.user];
      const content = `${number} ${"some words ".repeat(number % 30)}`;
      const id = String(number).padStart(26, "0");
      return { type: "unicast", id, senderId, receiverId, content, timestamp: Date.now() - (total - number) * 60_000 };
    });
    const next = from > 0 ? { "x-has-more": "true", "x-next": String(from).padStart(26, "0") } : {};
    return route.fulfill({ json: page, headers: next });
  });
  await bob.send("a message, for the list");
  await open(alice, bob.user);
  await heard(alice, "9999 ");
  const loading = await longestStep(alice, () => {
    document.querySelector("#log").scrollTop = 0;
    return document.querySelector("#log .older") !== null;
  });
  await heard(alice, "0 ");
  const scrolling = await longestStep(alice, (step) => {
    const log = document.querySelector("#log");
    log.scrollTop = (log.scrollHeight * step) / 100;
    return step < 100;
  });
  await alice.getByRole("button", { name: "Jump to" }).waitFor({ state: "detached" });
  const drawn = await alice.evaluate(() => document.querySelectorAll("*").length);
  const typing = await longestStep(alice, (key) => {
    const field = document.querySelector("#send textarea");
    field.value += "x";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    return key < 30;
  });
  const figures = { loading, scrolling, typing, drawn };
  console.log("10,000 messages: the longest steps in ms of processor time, and the number of elements", figures);
  await picture(alice, "10000");
  assert(drawn < 6_000, `${drawn} elements`);
  // Alone and beside six busy loops: 70 to 130, 73 to 89, 6. If all is drawn: 702, 226, 105.
  assert(loading < 500 && scrolling < 1_000 && typing < 50, JSON.stringify(figures));
  await close(alice);
});

test("an idle page asks for nothing", async () => {
  const alice = await tab({}, undefined, (page) => page.clock.install());
  alice.user = newUser("alice");
  const bob = await friend(alice, "bob");
  await bob.send("hello");
  const asked = [];
  alice.on("request", (request) => asked.push(request.url()));
  let frames = 0;
  alice.on("websocket", (socket) => socket.on("framesent", () => (frames += 1)));
  await signIn(alice, alice.user);
  await open(alice, bob.user);
  await heard(alice, "hello");
  const read = alice.waitForResponse(/\/api\/read/);
  await alice.clock.runFor(2_000);
  await read;
  // The client looks once, 20 seconds after it has connected, whether it has missed something.
  const look = alice.waitForResponse(/\/api\/message/);
  await alice.clock.runFor(19_000);
  await look;
  asked.length = frames = 0;
  await alice.clock.runFor(3 * 60_000);
  await say(alice, "still here");
  assert.deepEqual(asked, []);
  assert(frames <= 5, `${frames} frames: the message, the signal that the user types, and a ping each minute at most`);
  await close(alice);
});

test("the keyboard reaches everything that a chat needs", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  const tabTo = async (page, what) => {
    for (let presses = 0; presses < 40; presses++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((selector) => document.activeElement?.matches(selector), what)) return;
    }
    assert.fail(`the keyboard does not reach ${what}`);
  };
  await line(bob, alice.user).waitFor();
  await tabTo(bob, ".chat-line");
  await bob.keyboard.press("Enter");
  // The focus is then in the message field.
  await until(bob, () => document.activeElement?.matches("#send textarea"));
  await bob.keyboard.type("typed");
  await bob.keyboard.press("Shift+Enter");
  await bob.keyboard.type("in two lines");
  await bob.keyboard.press("Enter");
  await heard(alice, "typed");
  await stored(bob, "typed\nin two lines");
  // From the empty field to the last message, and to its menu.
  await bob.keyboard.press("ArrowUp");
  await until(bob, () => document.activeElement?.matches("#log .message.own"));
  await bob.keyboard.press("Enter");
  await until(bob, () => document.activeElement?.matches("[role=menuitem]"));
  await bob.keyboard.press("Enter");
  await bob.getByText(`Reply to ${bob.user}`).waitFor();
  await until(bob, () => document.activeElement?.matches("#send textarea"));
  await bob.keyboard.press("Escape");
  await bob.getByText(`Reply to ${bob.user}`).waitFor({ state: "detached" });
  await tabTo(bob, "#sidebar [aria-haspopup]");
  await bob.keyboard.press("Enter");
  await until(bob, () => document.activeElement?.matches("[role=menuitem]"));
  await bob.keyboard.press("Escape");
  await until(bob, () => document.activeElement?.matches("[aria-haspopup]"));
  await close(alice, bob);
});
