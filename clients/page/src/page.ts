/** The page: what is shown, and what a click does. */

import {
  ChatClient,
  ChatError,
  type Group,
  type Invitation,
  type Json,
  type Message,
  type State,
} from "serverless-chat-client";
import { Chats, idOf, isGroup, ofGroup, withUser, type ChatKey, type Draft } from "./chats.js";
import * as host from "./host.js";
import { LANGUAGES, type Language, type Words } from "./words.js";

/** How often friends, groups and invitations are looked up, of which nothing is pushed. */
const LOOK_EVERY_MS = 3_000;

/** How long a notice stays. */
const NOTICE_MS = 15_000;

const $ = <E extends HTMLElement>(id: string): E => document.getElementById(id) as E;

/** A user who is signed in. */
interface Session {
  me: string;
  chats: Chats;
  client: ChatClient;
  state: State;
  ties: host.Ties;
  groups: Group[];
  invitations: Invitation[];
  open: ChatKey | undefined;
}

let language: Language = navigator.language.startsWith("zh") ? "zh" : "en";
let session: Session | undefined;

const words = (): Words => LANGUAGES[language];

/** What somebody wrote, or an application of another kind. */
const textOf = (content: Json): string => (typeof content === "string" ? content : JSON.stringify(content));

// ------------------------------------------------------------------------------------------------- what went wrong
function inWords(error: unknown): string {
  if (error instanceof host.HostError) return error.message === "Not Found" ? words().errors.token : error.message;
  if (!(error instanceof ChatError)) return error instanceof TypeError ? words().errors.network : words().errors.other;
  const errors: Record<string, string> = words().errors;
  const text = errors[error.code] ?? words().errors.other;
  return error.code === "network" ? text : `${text} (${error.message})`;
}

let noticeTimer = 0;

function alarm(text: string): void {
  $("alert").textContent = text;
  $("alert").hidden = text === "";
}

function notice(text: string): void {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => notice(""), NOTICE_MS);
}

/** Do something that may fail, and say so if it does. */
function attempt(work: () => Promise<unknown>): void {
  alarm("");
  work().then(draw, (error: unknown) => alarm(inWords(error)));
}

/** The same, and what is looked up may be another then. */
function change(work: () => Promise<unknown>): void {
  attempt(async () => {
    await work();
    look();
  });
}

/** What a form does with one of its fields, which is empty once it is done. */
function onSubmit(id: string, field: string, work: (text: string) => Promise<unknown>): void {
  const form = $<HTMLFormElement>(id);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const input = form.elements.namedItem(field) as HTMLInputElement;
    attempt(async () => {
      await work(input.value.trim());
      input.value = "";
    });
  });
}

// --------------------------------------------------------------------------------------------------------- session
function newClient(me: string, chats: Chats): ChatClient {
  return new ChatClient({
    url: location.origin,
    token: () => host.tokenOf(me),
    stored: chats.stored,
    onMessage: take,
    onNotification: ({ notificationType, content }) => {
      notice(words().notification(notificationType, textOf(content)));
      look();
    },
    onState: (state) => {
      if (session === undefined) return;
      session.state = state;
      if (state === "online") {
        alarm("");
        look();
      }
      draw();
    },
    onError: (error) => {
      // These show in the state.
      if (error.code !== "network" && error.code !== "too_many_connections") alarm(inWords(error));
    },
  });
}

function take(message: Message): void {
  if (session === undefined) return;
  const { chats, open } = session;
  const key = chats.add(message, false);
  if (key === open && document.visibilityState === "visible") chats.read(key);
  draw();
}

async function signIn(me: string): Promise<void> {
  // Whether there are tokens at all.
  await host.tokenOf(me);
  const chats = new Chats(me);
  const ties = { friends: [], blocks: [] };
  const client = newClient(me, chats);
  session = { me, chats, client, state: "idle", ties, groups: [], invitations: [], open: undefined };
  sessionStorage.setItem("me", me);
  client.connect();
  look();
}

function goOnlineOrOff(): void {
  if (session === undefined) return;
  if (session.state === "closed") {
    session.client = newClient(session.me, session.chats);
    session.client.connect();
    return;
  }
  const { client } = session;
  attempt(async () => {
    await client.close();
    if (session !== undefined) session.state = "closed";
  });
}

/** Look up what is not pushed. While the server is away, its absence shows in the state. */
function look(): void {
  if (session === undefined || session.state === "closed") return;
  const { me, client } = session;
  Promise.all([host.tiesOf(me), client.api.groups(), client.api.invitations()]).then(
    ([ties, groups, invitations]) => {
      if (session?.client !== client) return;
      Object.assign(session, { ties, groups, invitations });
      if (session.open !== undefined && isGroup(session.open) && groupOf(session.open) === undefined) show(undefined);
      draw();
    },
    () => undefined,
  );
}

const groupOf = (key: ChatKey): Group | undefined => session?.groups.find((group) => group.id === idOf(key));

async function say(text: string): Promise<void> {
  if (session?.open === undefined || text === "") return;
  const { me, open, chats, client } = session;
  const draft: Draft = { text };
  chats.draft(open, draft);
  draw();
  $("log").lastElementChild?.scrollIntoView();
  const sent = isGroup(open) ? client.sendToGroup(idOf(open), text) : client.sendToUser(idOf(open), text);
  // Nobody waits for it here: while the connection is away it waits in the client.
  sent.then(
    ({ id, timestamp }) => {
      chats.undraft(open, draft);
      const own = { id, timestamp, senderId: me, content: text };
      const message: Message = isGroup(open)
        ? { type: "multicast", groupId: idOf(open), ...own }
        : { type: "unicast", receiverId: idOf(open), ...own };
      chats.add(message, true);
      draw();
    },
    (error: unknown) => {
      draft.failed = inWords(error);
      draw();
    },
  );
}

function show(key: ChatKey | undefined): void {
  if (session === undefined) return;
  session.open = key;
  if (key !== undefined) session.chats.read(key);
  $<HTMLDetailsElement>("details").open = false;
  draw();
  $("log").lastElementChild?.scrollIntoView();
  if (key === undefined) return;
  const phone = getComputedStyle($("back")).display !== "none";
  (phone ? $("chat-title") : $("send").querySelector("textarea"))?.focus();
}

// --------------------------------------------------------------------------------------------------------- drawing
type Child = Node | string;

function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A button, which keeps the focus by its key when it is drawn anew. */
function button(key: string, text: Child, click: () => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  const made = element("button", { type: "button", "data-key": key, ...attributes }, text);
  made.addEventListener("click", click);
  return made;
}

const drawn = new Map<string, string>();

/** Draw the children of an element anew if what they show has changed. */
function fill(id: string, model: unknown, children: () => Child[]): boolean {
  const now = JSON.stringify([language, model]);
  if (drawn.get(id) === now) return false;
  drawn.set(id, now);
  const place = $(id);
  const key = place.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
  place.replaceChildren(...children());
  if (key) place.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  return true;
}

function drawWords(): void {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  const all = words() as unknown as Record<string, string>;
  for (const [attribute, set] of [
    ["data-word", (node: Element, text: string) => (node.textContent = text)],
    ["data-word-label", (node: Element, text: string) => node.setAttribute("aria-label", text)],
    ["data-word-placeholder", (node: Element, text: string) => node.setAttribute("placeholder", text)],
  ] as const) {
    for (const node of document.querySelectorAll(`[${attribute}]`)) {
      set(node, all[node.getAttribute(attribute) ?? ""] ?? "");
    }
  }
  const other = $("language");
  other.textContent = words().language;
  other.lang = language === "zh" ? "en" : "zh-CN";
}

function draw(): void {
  const isReplaced = session?.state === "replaced";
  $("door").hidden = session !== undefined;
  $("room").hidden = session === undefined;
  $("state").hidden = session === undefined;
  $("toggle").hidden = session === undefined || isReplaced;
  $("replaced").hidden = !isReplaced;
  if (session === undefined) return;
  const { me, state, open } = session;
  document.title = `${me} · Chat`;
  $("me").textContent = me;
  // Said again only when it changes.
  if ($("state").textContent !== words().states[state]) $("state").textContent = words().states[state];
  $("state").dataset["state"] = state;
  $("toggle").textContent = state === "closed" ? words().goOnline : words().goOffline;
  $("room").classList.toggle("in-chat", open !== undefined);
  drawLists(session);
  drawChat(session);
}

function drawLists({ chats, ties, groups, invitations, open }: Session): void {
  const entry = (key: ChatKey, name: string, mark: string) => ({ key, name, mark, unread: chats.unread(key), open: key === open });
  type Entry = ReturnType<typeof entry>;
  const line = ({ key, name, mark, unread, open }: Entry) => {
    const made = button(key, "", () => show(key), { "aria-current": String(open) });
    made.append(element("span", { class: "name" }, name));
    if (mark !== "") made.append(element("small", {}, mark));
    if (unread > 0) {
      const badge = element("span", { class: "unread", "aria-label": words().unread(unread), role: "img" }, String(unread));
      made.append(badge);
    }
    return element("li", {}, made);
  };
  const blocked = (user: string) => (ties.blocks.includes(user) ? words().blocked : "");
  const known = chats.keys().filter((key) => !isGroup(key)).map(idOf);
  const users = [...new Set([...ties.friends, ...ties.blocks, ...known])].sort();
  const people = users.map((user) => entry(withUser(user), user, blocked(user)));
  fill("people", people, () => people.map(line));
  const rooms = groups.map((group) => entry(ofGroup(group.id), group.name, String(group.usersId.length)));
  fill("groups", rooms, () => rooms.map(line));
  $("invited").hidden = invitations.length === 0;
  fill("invitations", invitations, () => invitations.map(invitation));
}

function invitation({ id, groupName, invitedBy }: Invitation): HTMLElement {
  const text = words().invitedBy(groupName, invitedBy);
  const buttons = element(
    "div",
    { class: "buttons" },
    button(`join ${id}`, words().join, () => change(() => session!.client.api.acceptInvitation(id)), { class: "main" }),
    button(`decline ${id}`, words().decline, () => change(() => session!.client.api.declineInvitation(id))),
  );
  return element("li", { class: "invitation" }, text, buttons);
}

function drawChat(now: Session): void {
  const { open, chats } = now;
  const group = open === undefined ? undefined : groupOf(open);
  $("chat-title").textContent = open === undefined ? "" : isGroup(open) ? (group?.name ?? "") : idOf(open);
  $("chat-head").hidden = $("send").hidden = open === undefined;
  $("details").hidden = group === undefined;
  fill("actions", [open, now.ties, group], () => (open === undefined ? [] : actions(now, open, group)));
  if (group !== undefined) drawMembers(now, group);
  const messages = open === undefined ? [] : chats.messages(open);
  const drafts = open === undefined ? [] : chats.drafts(open);
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const empty = element("p", { class: "empty" }, open === undefined ? words().nobody : words().empty);
  const changed = fill("log", [open, messages, drafts], () => {
    const lines = [...messages.map((message) => spoken(now.me, message)), ...drafts.map(drafted)];
    return lines.length === 0 ? [empty] : lines;
  });
  if (changed && atEnd) log.lastElementChild?.scrollIntoView({ block: "nearest" });
}

function actions({ me, ties }: Session, open: ChatKey, group: Group | undefined): Child[] {
  const id = idOf(open);
  const act = (work: () => Promise<unknown>) => () => change(work);
  const notify = button(
    "notify",
    words().notify,
    act(async () => {
      await host.notify(isGroup(open) ? "multicast" : "unicast", id, words().greeting(me));
      notice(words().notified);
    }),
  );
  if (isGroup(open)) {
    const leave = group?.managerId === me ? words().dissolve : words().leave;
    return [notify, button("leave", leave, act(() => session!.client.api.leaveGroup(id)))];
  }
  const isBlocked = ties.blocks.includes(id);
  const buttons = [
    notify,
    button("block", isBlocked ? words().unblock : words().block, act(() => host.block(me, id, !isBlocked))),
  ];
  if (ties.friends.includes(id)) {
    buttons.push(button("unfriend", words().unfriend, act(() => host.befriend(me, id, false))));
  }
  return buttons;
}

function drawMembers({ me }: Session, group: Group): void {
  const isManager = group.managerId === me;
  $("rename").hidden = !isManager;
  fill("members", [me, group], () =>
    group.usersId.map((user) => {
      const line = element("li", {}, user === group.managerId ? `${user} (${words().manager})` : user);
      if (isManager && user !== me) {
        const remove = () => change(() => session!.client.api.removeMember(group.id, user));
        line.append(button(`remove ${user}`, "×", remove, { "aria-label": words().remove(user) }));
      }
      return line;
    }),
  );
}

function spoken(me: string, { senderId, timestamp, content }: Message): HTMLElement {
  const own = senderId === me;
  const locale = navigator.language.startsWith(language) ? navigator.language : language;
  const time = new Intl.DateTimeFormat(locale, { timeStyle: "short" }).format(timestamp);
  const head = element("small", {}, own ? time : `${senderId} · ${time}`);
  return element("div", { class: own ? "line own" : "line" }, head, textOf(content));
}

function drafted({ text, failed }: Draft): HTMLElement {
  const state = failed === undefined ? words().sending : words().notSent(failed);
  return element("div", { class: failed === undefined ? "line own" : "line own failed" }, element("small", {}, state), text);
}

// ----------------------------------------------------------------------------------------------------------- begin
$<HTMLFormElement>("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => signIn($<HTMLInputElement>("name").value));
});
onSubmit("befriend", "user", async (user) => {
  if (session === undefined) return;
  await host.befriend(session.me, user);
  session.ties = await host.tiesOf(session.me);
  show(withUser(user));
});
onSubmit("found", "name", async (name) => {
  if (session === undefined) return;
  const id = await session.client.api.createGroup(name);
  session.groups = await session.client.api.groups();
  show(ofGroup(id));
});
onSubmit("invite", "user", async (user) => {
  if (session?.open === undefined) return;
  await session.client.api.invite(idOf(session.open), user);
  notice(words().invited(user));
});
onSubmit("rename", "name", async (name) => {
  if (session?.open === undefined) return;
  await session.client.api.renameGroup(idOf(session.open), name);
  look();
});
onSubmit("send", "text", say);
$("send").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $<HTMLFormElement>("send").requestSubmit();
});
$("back").addEventListener("click", () => {
  const key = session?.open;
  show(undefined);
  if (key !== undefined) $("room").querySelector<HTMLElement>(`nav [data-key="${CSS.escape(key)}"]`)?.focus();
});
$("toggle").addEventListener("click", goOnlineOrOff);
$("continue").addEventListener("click", () => {
  session?.client.connect();
  $("toggle").focus();
});
$("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  sessionStorage.setItem("language", language);
  drawWords();
  draw();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible" || session?.open === undefined) return;
  session.chats.read(session.open);
  draw();
});
setInterval(() => {
  if (document.visibilityState === "visible") look();
}, LOOK_EVERY_MS);

const remembered = sessionStorage.getItem("language");
if (remembered === "en" || remembered === "zh") language = remembered;
drawWords();
draw();
// A reload is no sign-out.
const before = sessionStorage.getItem("me");
if (before !== null) attempt(() => signIn(before));
