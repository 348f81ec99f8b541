// What users do with each other, in a real browser, against a local stack of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  act, befriend, choose, close, closeDialog, device, friend, gather, heard, line, messages, newUser, online, open,
  picture, say, sendAs, signed, signIn, stack, startStack, stored, tab, tabs, texts, until, write,
} from "./support.js";

test("two users chat: unread, read, typing, and who has written last", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  const carol = await friend(bob, "carol");
  await befriend(alice, bob);
  await carol.send("earlier");
  await write(alice, "");
  await alice.locator("#send textarea").pressSequentially("hello");
  await line(bob, alice.user).filter({ hasText: "typing" }).waitFor();
  await alice.keyboard.press("Enter");
  await alice.locator("#log .mark-stored").waitFor();
  await line(bob, alice.user).getByLabel("1 unread").waitFor();
  await line(bob, alice.user).filter({ hasText: "hello" }).waitFor();
  await until(bob, () => document.title.startsWith("(2) "));
  assert.equal(await bob.locator(".chat-line .name").first().textContent(), alice.user);
  await picture(bob, "unread");

  await open(bob, alice.user);
  await heard(bob, "hello");
  await until(bob, () => document.title.startsWith("(1) "));
  assert.equal(await line(bob, alice.user).locator(".unread").count(), 0);
  await alice.locator("#log .mark-read").waitFor();
  await say(bob, "hello, alice");
  await heard(alice, "hello, alice");
  assert.equal(await alice.locator(".chat-line .unread").count(), 0, "what is on the screen is read");
  await picture(alice, "talk");
  await close(alice, bob);
});

test("another device shows what the user sends, reads and recalls", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  const phone = await device(bob);
  await befriend(alice, bob);
  await say(alice, "which day?");
  for (const page of [bob, phone]) await line(page, alice.user).getByLabel("1 unread").waitFor();
  await open(bob, alice.user);
  await line(phone, alice.user).locator(".unread").waitFor({ state: "detached" });
  await open(phone, alice.user);
  await say(bob, "sunday");
  await heard(phone, "sunday");
  await say(phone, "or monday");
  await heard(bob, "or monday");
  await act(phone, "sunday", "Recall for everybody");
  await phone.getByRole("alertdialog").getByRole("button", { name: "Cancel" }).click();
  assert.equal(await phone.locator(".recalled").count(), 0, "nothing is recalled without a confirmation");
  await act(phone, "sunday", "Recall for everybody");
  await phone.getByRole("alertdialog").getByRole("button", { name: "Recall for everybody" }).click();
  await bob.getByText("You recalled this message").waitFor();
  await alice.getByText(`${bob.user} recalled this message`).waitFor();
  for (const page of [alice, bob, phone]) assert.deepEqual(await texts(page), ["which day?", "or monday"]);
  await phone.reload();
  await heard(phone, "or monday");
  await phone.locator(".recalled").waitFor();
  assert.deepEqual(await texts(phone), ["which day?", "or monday"]);
  await close(alice, bob, phone);
});

test("a reply quotes a message, and leads to it", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  await say(alice, "the first question");
  for (let number = 0; number < 12; number++) await say(alice, `more\nand\nmore ${number}`);
  await open(bob, alice.user);
  await heard(bob, "more 11");
  await act(bob, "the first question", "Reply");
  await write(bob, "the answer");
  await bob.reload();
  await bob.getByText(`Reply to ${alice.user}`).waitFor();
  assert.equal(await bob.locator("#send textarea").inputValue(), "the answer", "the draft has kept its quote");
  await bob.locator("#send textarea").press("Enter");
  const quote = alice.locator("#log .quote", { hasText: "the first question" });
  await quote.waitFor();
  await quote.click();
  const asked = messages(alice).filter({ hasText: "the first question" }).first();
  await until(alice, (node) => node.getBoundingClientRect().top > 0, await asked.elementHandle());
  await close(alice, bob);
});

test("a group: invitations, members, mute, a new manager, renaming, leaving", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await gather(alice, "Walkers", [bob]);
  await say(alice, "who walks?");
  await heard(bob, "who walks?");
  await say(bob, "I do");
  await heard(alice, "I do");

  await bob.locator("#chat .below").click();
  await bob.getByLabel("Invite somebody").fill(carol.user);
  await bob.keyboard.press("Enter");
  await bob.getByText(`You invited ${carol.user}.`).waitFor();
  await closeDialog(bob);
  await carol.getByText(`${bob.user} invites you to “Walkers”`).waitFor();
  await picture(carol, "invitation");
  await carol.getByRole("button", { name: "Decline" }).click();
  await carol.locator("#invitations").waitFor({ state: "detached" });
  await carol.getByText("You have no chats yet.").waitFor();

  await alice.locator("#chat .below").click();
  const member = alice.locator("#members li", { hasText: bob.user });
  await picture(alice, "group");
  await choose(alice, member.locator("[aria-haspopup]"), "Mute for an hour");
  await alice.getByText(`${bob.user} cannot write in this group until`).waitFor();
  await write(bob, "I am muted");
  await bob.keyboard.press("Enter");
  await bob.locator("#log .failed", { hasText: "The manager of the group has muted you. Until" }).waitFor();
  await choose(alice, member.locator("[aria-haspopup]"), "Unmute");
  await alice.getByText(`${bob.user} can write in this group.`).waitFor();
  await bob.locator("#log .failed").getByRole("button", { name: "Send again" }).click();
  await stored(bob, "I am muted");

  await alice.getByLabel("Rename the group").fill("Hikers");
  await alice.getByRole("button", { name: "Rename" }).click();
  await bob.locator("#chat-title", { hasText: "Hikers" }).waitFor();
  await choose(alice, member.locator("[aria-haspopup]"), "Make manager");
  await alice.getByRole("alertdialog").getByRole("button", { name: "Make manager" }).click();
  await bob.getByText("You are now the manager of “Hikers”.").waitFor();
  await alice.getByRole("button", { name: "Leave group" }).click();
  await alice.getByRole("alertdialog").getByRole("button", { name: "Leave group" }).click();
  await line(alice, "Hikers").waitFor({ state: "detached" });
  await bob.locator("#chat .below", { hasText: "1 member" }).waitFor();
  await close(alice, bob, carol);
});

test("what is typed while a form is sent stays, and can be sent too", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await gather(alice, "Walkers", []);
  let answer;
  const isAnswered = new Promise((resolve) => (answer = resolve));
  const invites = [];
  await alice.route(/\/request$/, async (route) => {
    invites.push(route.request().postData());
    if (invites.length === 1) await isAnswered;
    await route.continue();
  });
  await alice.locator("#chat .below").click();
  const field = alice.getByLabel("Invite somebody");
  await field.fill(bob.user);
  await field.press("Enter");
  await field.press("Enter");
  await field.fill(carol.user);
  await field.press("Enter");
  await carol.getByText("invites you to “Walkers”").waitFor();
  assert.equal(invites.length, 2, "the repeated Enter sent nothing");
  await field.fill("dave");
  answer();
  await bob.getByText("invites you to “Walkers”").waitFor();
  await alice.getByText(`You invited ${bob.user}.`).waitFor();
  assert.equal(await field.inputValue(), "dave");

  const name = alice.getByLabel("Rename the group");
  await name.fill("Hikers");
  await name.press("Enter");
  await alice.locator("#chat-title", { hasText: "Hikers" }).waitFor();
  assert.equal(await name.inputValue(), "Hikers");
  await close(alice, bob, carol);
});

test("a group is dissolved only after a confirmation, and members are told", async () => {
  const [alice, bob, carol] = await tabs(["alice", "bob", "carol"]);
  await gather(alice, "Walkers", [bob, carol]);
  await alice.locator("#chat .below").click();
  const member = alice.locator("#members li", { hasText: carol.user });
  await choose(alice, member.locator("[aria-haspopup]"), "Remove from group");
  await alice.getByRole("alertdialog").getByRole("button", { name: "Remove from group" }).click();
  await carol.getByText("You are no longer a member of “Walkers”.").waitFor();
  await line(carol, "Walkers").waitFor({ state: "detached" });
  await alice.getByRole("button", { name: "Dissolve group" }).click();
  await alice.keyboard.press("Escape");
  await alice.getByRole("alertdialog").waitFor({ state: "detached" });
  await say(bob, "still here");
  await alice.getByRole("button", { name: "Dissolve group" }).click();
  await alice.getByRole("alertdialog").getByRole("button", { name: "Dissolve group" }).click();
  await bob.getByText("The group “Walkers” was dissolved.").waitFor();
  for (const page of [alice, bob]) await line(page, "Walkers").waitFor({ state: "detached" });
  await close(alice, bob, carol);
});

test("a block is invisible to the sender, and ends with the unblock", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  await open(bob, alice.user);
  const menu = bob.locator("#chat > header [aria-haspopup]");
  await choose(bob, menu, "Block");
  await line(bob, alice.user).filter({ hasText: "blocked" }).waitFor();
  // To the blocked user the message looks sent.
  await say(alice, "can you hear me?");
  await choose(bob, menu, "Unblock");
  await bob.getByText("You have blocked").waitFor({ state: "detached" });
  await say(alice, "and now?");
  await heard(bob, "and now?");
  assert.deepEqual(await texts(bob), ["and now?"]);
  assert.equal(await messages(alice).count(), 2);
  assert.equal(await alice.locator("#log .failed").count(), 0);
  await close(alice, bob);
});

test("the console and the log tell the developer that two users are not friends, and the user is not told", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  const warned = alice.waitForEvent("console", (line) => line.type() === "warning");
  await befriend(alice, bob);
  await choose(alice, alice.locator("#chat > header [aria-haspopup]"), "Remove friend");
  await alice.getByRole("alertdialog").getByRole("button", { name: "Remove friend" }).click();
  await line(bob, alice.user).waitFor({ state: "detached" });
  await say(alice, "does it arrive?");
  assert.match((await warned).text(), new RegExp(`PUT /relationship/${alice.user}/friends/${bob.user}`));
  await stack.logged(`${bob.user} gets no messages of ${alice.user}: they are not friends`);
  assert.equal(await alice.locator(".notices .error").count(), 0);
  await close(alice, bob);
});

test("a tab replaced by a newer one says so, and reconnects only when told", async () => {
  const small = await startStack([], { MAX_CONNECTIONS: "1" });
  const [alice, older] = await tabs(["alice", "bob"], {}, small.address);
  await befriend(alice, older);
  const newer = await signIn(await tab({}, small.address), older.user);
  const warning = (page) => page.getByRole("alert").filter({ hasText: "too many tabs or on too many devices" });
  await warning(older).waitFor();
  await older.locator("#state[data-state=replaced]").waitFor();
  await picture(older, "replaced");
  // The older tab does not connect by itself, so the newer one stays connected.
  await older.evaluate(() => globalThis.dispatchEvent(new Event("online")));
  await say(alice, "to the newer");
  await open(newer, alice.user);
  await heard(newer, "to the newer");

  await older.getByRole("button", { name: "Continue here" }).click();
  await warning(newer).waitFor();
  await online(older);
  await warning(older).waitFor({ state: "detached" });
  await open(older, alice.user);
  await heard(older, "to the newer");
  await say(older, "here again");
  await heard(alice, "here again");
  await newer.locator("#state[data-state=replaced]").waitFor();
  await close(alice, older, newer);
  small.stop();
});

test("a notification is shown", async () => {
  const [alice, bob] = await tabs(["alice", "bob"]);
  await befriend(alice, bob);
  await choose(alice, alice.locator("#chat > header [aria-haspopup]"), "Send a notification");
  await bob.getByText(`Notification (greeting): ${alice.user} asked the back end to send this greeting.`).waitFor();
  await close(alice, bob);
});

test("the error of a call is shown in words", async () => {
  const [alice] = await tabs(["alice"]);
  await alice.getByLabel("Their name").fill(alice.user);
  await alice.keyboard.press("Enter");
  await alice.getByRole("alert").filter({ hasText: "must be another user" }).waitFor();
  // The browser logs the answer 400.
  alice.complaints.length = 0;
  await close(alice);
});

test("without tokens the page says what to do", async () => {
  const other = await startStack([], { JWT_SECRET: "the-secret-of-the-tests-of-the-page" });
  const page = await tab({}, other.address);
  await page.locator("#sign-in input").fill("alice");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "without a JWT_SECRET" }).waitFor();
  page.complaints.length = 0;
  await close(page);
  other.stop();
});

test("an address with a token signs in, also after a reload, and the token leaves the address", async () => {
  const secret = "the-secret-of-the-tests-of-the-page";
  const other = await startStack([], { JWT_SECRET: secret });
  const [alice, bob] = ["alice", "bob"].map((user) => signed(user, secret));
  await fetch(`${other.internal}/relationship/alice/friends/bob`, { method: "PUT" });
  const page = await tab({}, `${other.address}/#token=${alice}`);
  await line(page, "bob").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  await page.reload();
  await open(page, "bob");
  await say(page, "hello");
  await page.locator("#log .mark-stored").waitFor();
  const pulled = await fetch(`${other.address}/api/message?access_token=${bob}`);
  const said = (await pulled.json()).flatMap(({ messages }) => messages.map(({ content }) => content));
  assert.deepEqual(said, ["hello"]);
  // The local stack does not tell this page of relations.
  page.complaints.length = 0;
  await close(page);
  other.stop();
});

test("an address that is not one of the page's is ignored", async () => {
  for (const hash of ["#%E0%A4%A", "#token=none", "#token=a.b.c", "#nobody"]) {
    const page = await tab({}, `${stack.address}/${hash}`);
    await page.locator("#sign-in").waitFor();
    await close(page);
  }
});

test("signing out forgets the user, and warns before it loses a message", async () => {
  const [alice] = await tabs(["alice"]);
  const bob = await friend(alice, "bob");
  await bob.send("hello");
  await alice.reload();
  await open(alice, bob.user);
  await choose(alice, alice.locator("#sidebar > header [aria-haspopup]"), "Go offline");
  await alice.locator("#state[data-state=closed]").waitFor();
  await write(alice, "not sent yet");
  await alice.keyboard.press("Enter");
  await choose(alice, alice.locator("#sidebar > header [aria-haspopup]"), "Sign out");
  await alice.getByText("One message is not sent yet.").waitFor();
  await alice.getByRole("button", { name: "Cancel" }).click();
  await choose(alice, alice.locator("#sidebar > header [aria-haspopup]"), "Sign out");
  await alice.getByRole("alertdialog").getByRole("button", { name: "Sign out" }).click();
  await alice.locator("#sign-in input").waitFor();
  const kept = await alice.evaluate(() => [...Object.keys(localStorage), ...Object.keys(sessionStorage)]);
  assert.deepEqual(kept, []);
  await alice.reload();
  await signIn(alice, newUser("carol"));
  await alice.getByText("You have no chats yet.").waitFor();
  await close(alice);
});

test("the message of a bot that is no friend makes a chat", async () => {
  const [alice] = await tabs(["alice"]);
  const bot = newUser("bot");
  await sendAs(bot, alice.user, { order: 7, state: "sent" });
  await open(alice, bot);
  await alice.locator("#log figure", { hasText: '"order": 7' }).waitFor();
  await close(alice);
});
