// What others can make grow has a limit: the newest is kept.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";
import { close, friend, heard, line, newUser, open, signIn, tab, until, write } from "./support.js";

/** Opens the page of a user with these invitations. Returns it, and what gives it a frame as if the server sent it. */
async function listening(invitations = []) {
  let say;
  const prepare = async (page) => {
    await page.context().route(/\/api\/request$/, (route) => route.fulfill({ json: invitations }));
    await page.routeWebSocket(/\/ws$/, (socket) => {
      socket.connectToServer();
      say = (frame) => socket.send(JSON.stringify(frame));
    });
  };
  const page = await signIn(await tab({}, undefined, prepare), newUser("alice"));
  return [page, (frame) => say(frame)];
}

const idOf = (number) => String(number).padStart(26, "0");

/** What a reload would show, as the browser has it. */
const snapshot = (page) =>
  page.evaluate(() => {
    dispatchEvent(new Event("pagehide"));
    return localStorage.getItem(Object.keys(localStorage).find((key) => key.endsWith("/snapshot")));
  });

test("of chats with strangers the 100 newest are shown", async () => {
  const [alice, say] = await listening();
  for (let number = 0; number < 130; number++) {
    const senderId = `user-${idOf(number)}`;
    say({ type: "unicast", id: idOf(number + 1), senderId, receiverId: alice.user, content: "hi", timestamp: number });
  }
  await line(alice, idOf(129)).waitFor();
  await until(alice, () => document.querySelectorAll(".chat-line").length === 100);
  assert.equal(await line(alice, idOf(29)).count(), 0);
  await close(alice);
});

test("all invitations that the server lists are shown, and with later ones 1,000 at most", async () => {
  const invitation = (number) => {
    return { id: idOf(number), groupId: idOf(number), groupName: `group-${number}`, userId: "alice", invitedBy: "bob" };
  };
  const [alice, say] = await listening(Array.from({ length: 1_000 }, (_, number) => invitation(number)));
  await until(alice, () => document.querySelectorAll("#invitations > li").length === 1_000);
  say({ type: "INVITATION", ...invitation(1_000) });
  const shown = alice.locator("#invitations > li");
  await shown.filter({ hasText: "group-1000" }).waitFor();
  assert.equal(await shown.count(), 1_000);
  await close(alice);
});

test("what a reload shows leaves room in the browser's storage", async () => {
  const [alice] = await listening();
  const bob = await friend(alice, "bob");
  await bob.send("first");
  await open(alice, bob.user);
  for (let number = 0; number < 30; number++) await bob.send(`${number} ${"long ".repeat(5_000)}`);
  await heard(alice, "29 long");
  const kept = await snapshot(alice);
  assert(kept.length < 600_000, `${kept.length} characters`);
  assert(JSON.parse(kept).log.flat().at(-1).content.startsWith("29 "), "the newest is kept");
  await close(alice);
});

test("if the browser's storage is full, a draft takes the place of what others have filled", async () => {
  const [alice] = await listening();
  const bob = await friend(alice, "bob");
  await bob.send(`long ${"word ".repeat(6_000)}`);
  await open(alice, bob.user);
  await snapshot(alice);
  await alice.evaluate(() => {
    for (let length = 4_000_000; length >= 1; length = Math.floor(length / 2)) {
      try {
        for (let number = 0; ; number++) localStorage.setItem(`other ${length} ${number}`, "x".repeat(length));
      } catch {
        // Full: a smaller one may still fit.
      }
    }
  });
  await write(alice, "my draft ".repeat(100));
  const draft = await alice.evaluate(() =>
    localStorage.getItem(Object.keys(localStorage).find((key) => key.includes("/draft/"))),
  );
  assert.match(draft, /my draft/);
  await close(alice);
});

/** A chat with so many messages, of which the last chunks are kept. Returns it, and a function that adds another one. */
async function chatOf(count, maxChunks) {
  const { outputFiles } = await build({
    entryPoints: [new URL("../src/model/chat.ts", import.meta.url).pathname],
    bundle: true,
    format: "esm",
    write: false,
  });
  const { Chat } = await import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`);
  const chat = new Chat("user alice", "bob");
  const add = (number, maxChunks) => chat.add(message(number), maxChunks);
  for (let number = 0; number < count; number++) add(number, maxChunks);
  return [chat, add];
}

const message = (number) => {
  return { type: "unicast", id: idOf(number), senderId: "alice", receiverId: "bob", content: number, timestamp: 1 };
};

test("a log keeps its newest chunks, and older messages can be loaded again", async () => {
  const [chat] = await chatOf(1_000, 2);
  const log = chat.log.value.flat();
  assert(log.length <= 100, `${log.length} messages`);
  assert.equal(log.at(-1).content, 999);
  assert.equal(chat.hasOlder.value, true);
});

test("older messages that come after the start of the log was removed leave no gap", async () => {
  const [chat, add] = await chatOf(300, 4);
  const contents = () => chat.log.value.flat().map(({ content }) => content);
  const older = (start) => ({ messages: Array.from({ length: 50 }, (_, n) => message(start - 50 + n)), hasMore: true });
  const [start] = contents();
  add(300, 2);
  const [later] = contents();
  chat.addOlder(older(start), idOf(start));
  assert.equal(contents()[0], later, "the page is ignored");
  chat.addOlder(older(later), idOf(later));
  assert.deepEqual(contents(), Array.from({ length: 301 - later + 50 }, (_, n) => later - 50 + n));
});
