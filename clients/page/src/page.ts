/** Draws the page and handles its events. */

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

/** How often friends, groups and invitations are loaded. The server does not push their changes. */
const REFRESH_EVERY_MS = 3_000;

/** How long a notice is shown. */
const NOTICE_MS = 15_000;

const $ = <E extends HTMLElement>(id: string): E => document.getElementById(id) as E;

/** A signed-in user. */
interface Session {
  me: string;
  chats: Chats;
  client: ChatClient;
  state: State;
  relations: host.Relations;
  groups: Group[];
  invitations: Invitation[];
  open: ChatKey | undefined;
}

let language: Language = navigator.language.startsWith("zh") ? "zh" : "en";
let session: Session | undefined;

const words = (): Words => LANGUAGES[language];

const locale = (): string => (navigator.language.startsWith(language) ? navigator.language : language);

/** The text of a content. Other applications may send content that is not text: it is shown as JSON. */
const textOf = (content: Json): string => (typeof content === "string" ? content : JSON.stringify(content));

// ------------------------------------------------------------------------------------------------- errors, notices
/** Whether the server did not answer. The state then shows it too. */
function isUnreachable(error: unknown): boolean {
  if (!(error instanceof ChatError)) return error instanceof TypeError;
  // No token came: the local stack refused it, or did not answer.
  if (error.code === "token") return !(error.cause instanceof host.HostError);
  return error.code === "network";
}

/** Says what happened and what to do. */
function textOfError(error: unknown): string {
  const errors: Record<string, string> & Words["errors"] = words().errors;
  if (isUnreachable(error)) return errors.network;
  if (error instanceof host.HostError) return error.status === 404 ? errors.noToken : error.message;
  if (!(error instanceof ChatError)) return errors.other;
  if (error.code === "token") return textOfError(error.cause);
  const text = `${errors[error.code] ?? errors.other} (${error.message})`;
  if (error.until === undefined) return text;
  const end = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(error.until);
  return `${text} ${words().until(end)}`;
}

let noticeTimer = 0;

function showError(text: string): void {
  $("alert").textContent = text;
  $("alert").hidden = text === "";
}

function showNotice(text: string): void {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
  clearTimeout(noticeTimer);
  noticeTimer = window.setTimeout(() => showNotice(""), NOTICE_MS);
}

/** Performs an action, and shows its error if it fails. */
function attempt(work: () => Promise<unknown>): void {
  showError("");
  work().then(draw, (error: unknown) => showError(textOfError(error)));
}

/** Performs an action that changes friends, groups or invitations, and loads them again. */
function change(work: () => Promise<unknown>): void {
  attempt(async () => {
    await work();
    refresh();
  });
}

/** Performs an action with the text of a field when the form is submitted. Then empties the field. */
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
      showNotice(words().notification(notificationType, textOf(content)));
      refresh();
    },
    onState: (state) => {
      if (session === undefined) return;
      session.state = state;
      if (state === "online") {
        showError("");
        refresh();
      }
      draw();
    },
    onError: (error) => {
      if (error.code === "rate_limited") return showNotice(words().limited);
      // The state shows these.
      if (!isUnreachable(error) && error.code !== "too_many_connections") showError(textOfError(error));
    },
  });
}

function take(message: Message): void {
  if (session === undefined) return;
  const { chats, open, me } = session;
  // The user's own messages come from other tabs.
  const key = chats.add(message, message.senderId === me);
  if (key === open && document.visibilityState === "visible") chats.read(key);
  draw();
}

async function signIn(me: string): Promise<void> {
  // Fails if the local stack gives no tokens.
  await host.tokenOf(me);
  const chats = new Chats(me);
  const relations = { friends: [], blocks: [] };
  const client = newClient(me, chats);
  session = { me, chats, client, state: "idle", relations, groups: [], invitations: [], open: undefined };
  sessionStorage.setItem("me", me);
  client.connect();
  refresh();
}

function goOnlineOrOff(): void {
  if (session === undefined) return;
  if (session.state === "banned") return session.client.connect();
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

/** Loads friends, groups and invitations. Errors are not shown: if the server does not answer, the state shows it. */
function refresh(): void {
  if (session === undefined || session.state === "closed" || session.state === "banned") return;
  const { me, client } = session;
  Promise.all([host.relationsOf(me), client.api.groups(), client.api.invitations()]).then(
    ([relations, groups, invitations]) => {
      if (session?.client !== client) return;
      Object.assign(session, { relations, groups, invitations });
      if (session.open !== undefined && isGroup(session.open) && groupOf(session.open) === undefined) show(undefined);
      draw();
    },
    () => undefined,
  );
}

const groupOf = (key: ChatKey): Group | undefined => session?.groups.find((group) => group.id === idOf(key));

async function send(text: string): Promise<void> {
  if (session?.open === undefined || text === "") return;
  const { me, open, chats, client } = session;
  const draft: Draft = { text };
  chats.draft(open, draft);
  draw();
  $("log").lastElementChild?.scrollIntoView();
  const sent = isGroup(open) ? client.sendToGroup(idOf(open), text) : client.sendToUser(idOf(open), text);
  // Not awaited: without a connection, the message waits in the client.
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
      const text = textOfError(error);
      const mayHaveArrived = error instanceof ChatError && ["unacknowledged", "closed"].includes(error.code);
      draft.failed = mayHaveArrived ? text : words().notSent(text);
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

/** Makes a button. Its key keeps the focus when the button is drawn again. */
function button(
  key: string,
  text: Child,
  click: () => void,
  attributes: Record<string, string> = {},
): HTMLButtonElement {
  const made = element("button", { type: "button", "data-key": key, ...attributes }, text);
  made.addEventListener("click", click);
  return made;
}

const drawn = new Map<string, string>();

/** Draws the children of an element again if their model has changed. Returns whether it has. */
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
  $("signed-out").hidden = session !== undefined;
  $("signed-in").hidden = session === undefined;
  $("state").hidden = session === undefined;
  $("toggle").hidden = session === undefined || isReplaced;
  $("replaced").hidden = !isReplaced;
  if (session === undefined) return;
  const { me, state, open } = session;
  document.title = `${me} · Chat`;
  $("me").textContent = me;
  // Set only when it changes, since screen readers read each new text.
  if ($("state").textContent !== words().states[state]) $("state").textContent = words().states[state];
  $("state").dataset["state"] = state;
  $("toggle").textContent = state === "closed" || state === "banned" ? words().goOnline : words().goOffline;
  $("signed-in").classList.toggle("in-chat", open !== undefined);
  drawLists(session);
  drawChat(session);
}

function drawLists({ chats, relations, groups, invitations, open }: Session): void {
  const entry = (key: ChatKey, name: string, mark: string) => {
    return { key, name, mark, unread: chats.unread(key), open: key === open };
  };
  type Entry = ReturnType<typeof entry>;
  const line = ({ key, name, mark, unread, open }: Entry) => {
    const made = button(key, "", () => show(key), { "aria-current": String(open) });
    made.append(element("span", { class: "name" }, name));
    if (mark !== "") made.append(element("small", {}, mark));
    if (unread > 0) {
      const attributes = { class: "unread", "aria-label": words().unread(unread), role: "img" };
      made.append(element("span", attributes, String(unread)));
    }
    return element("li", {}, made);
  };
  const blocked = (user: string) => (relations.blocks.includes(user) ? words().blocked : "");
  const known = chats.keys().filter((key) => !isGroup(key)).map(idOf);
  const users = [...new Set([...relations.friends, ...relations.blocks, ...known])].sort();
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
  fill("actions", [open, now.relations, group], () => (open === undefined ? [] : actions(now, open, group)));
  if (group !== undefined) drawMembers(now, group);
  const messages = open === undefined ? [] : chats.messages(open);
  const drafts = open === undefined ? [] : chats.drafts(open);
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const empty = element("p", { class: "empty" }, open === undefined ? words().noChat : words().noMessages);
  const changed = fill("log", [open, messages, drafts], () => {
    const lines = [...messages.map((message) => messageLine(now.me, message)), ...drafts.map(draftLine)];
    return lines.length === 0 ? [empty] : lines;
  });
  if (changed && atEnd) log.lastElementChild?.scrollIntoView({ block: "nearest" });
}

function actions({ me, relations }: Session, open: ChatKey, group: Group | undefined): Child[] {
  const id = idOf(open);
  const act = (work: () => Promise<unknown>) => () => change(work);
  const notify = button(
    "notify",
    words().notify,
    act(async () => {
      await host.notify(isGroup(open) ? "multicast" : "unicast", id, words().greeting(me));
      showNotice(words().notified);
    }),
  );
  if (isGroup(open)) {
    const leave = group?.managerId === me ? words().dissolve : words().leave;
    return [notify, button("leave", leave, act(() => session!.client.api.leaveGroup(id)))];
  }
  const isBlocked = relations.blocks.includes(id);
  const buttons = [
    notify,
    button("block", isBlocked ? words().unblock : words().block, act(() => host.block(me, id, !isBlocked))),
  ];
  if (relations.friends.includes(id)) {
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

function messageLine(me: string, { senderId, timestamp, content }: Message): HTMLElement {
  const own = senderId === me;
  const time = new Intl.DateTimeFormat(locale(), { timeStyle: "short" }).format(timestamp);
  const head = element("small", {}, own ? time : `${senderId} · ${time}`);
  return element("div", { class: own ? "line own" : "line" }, head, textOf(content));
}

function draftLine({ text, failed }: Draft): HTMLElement {
  const state = element("small", {}, failed ?? words().sending);
  return element("div", { class: failed === undefined ? "line own" : "line own failed" }, state, text);
}

// ----------------------------------------------------------------------------------------------------------- start
$<HTMLFormElement>("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => signIn($<HTMLInputElement>("name").value));
});
onSubmit("add-friend", "user", async (user) => {
  if (session === undefined) return;
  await host.befriend(session.me, user);
  session.relations = await host.relationsOf(session.me);
  show(withUser(user));
});
onSubmit("create-group", "name", async (name) => {
  if (session === undefined) return;
  const id = await session.client.api.createGroup(name);
  session.groups = await session.client.api.groups();
  show(ofGroup(id));
});
onSubmit("invite", "user", async (user) => {
  if (session?.open === undefined) return;
  await session.client.api.invite(idOf(session.open), user);
  showNotice(words().invited(user));
});
onSubmit("rename", "name", async (name) => {
  if (session?.open === undefined) return;
  await session.client.api.renameGroup(idOf(session.open), name);
  refresh();
});
onSubmit("send", "text", send);
$("send").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $<HTMLFormElement>("send").requestSubmit();
});
$("back").addEventListener("click", () => {
  const key = session?.open;
  show(undefined);
  if (key !== undefined) document.querySelector<HTMLElement>(`nav [data-key="${CSS.escape(key)}"]`)?.focus();
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
  if (document.visibilityState === "visible") refresh();
}, REFRESH_EVERY_MS);

const remembered = sessionStorage.getItem("language");
if (remembered === "en" || remembered === "zh") language = remembered;
drawWords();
draw();
// A reload keeps the user signed in.
const before = sessionStorage.getItem("me");
if (before !== null) attempt(() => signIn(before));
