/** What lasts longer than a session: who is signed in in this tab, and the settings of this browser. */

import { effect, signal } from "@preact/signals";
import * as host from "./host.js";
import { isKey } from "./key.js";
import { notices } from "./notices.js";
import { Session } from "./session.js";
import { language, words, type Language } from "../words/words.js";

export type Theme = "system" | "light" | "dark";

export const THEMES: readonly Theme[] = ["system", "light", "dark"];

export const session = signal<Session | undefined>(undefined);

export const theme = signal<Theme>("system");

function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

function write(storage: () => Storage, name: string, value: string | undefined): void {
  try {
    if (value === undefined) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    // Forbidden. A reload forgets it.
  }
}

const browser = () => localStorage;
const tab = () => sessionStorage;

/** Signs in. Fails if the local stack gives no tokens. */
export async function signIn(me: string): Promise<void> {
  await host.tokenOf(me);
  write(tab, "me", me);
  begin(me);
}

/** Signs the user out in all tabs of this browser. */
export async function signOut(): Promise<void> {
  const ended = session.peek();
  const isEnded = leave();
  ended?.forget();
  await isEnded;
}

/** Ends the session of this tab. */
async function leave(): Promise<void> {
  const ended = session.peek();
  write(tab, "me", undefined);
  write(tab, "token", undefined);
  session.value = undefined;
  notices.clear();
  history.replaceState(null, "", location.pathname);
  await ended?.end();
}

export function setLanguage(to: Language): void {
  language.value = to;
  write(browser, "language", to);
}

export function setTheme(to: Theme): void {
  theme.value = to;
  write(browser, "theme", to);
}

function begin(me: string): void {
  // The other tab has removed what the browser kept. The user may have signed in there again, so this removes nothing.
  const begun = new Session(me, () => {
    void leave();
    notices.show(words().signedOut);
  });
  session.value = begun;
  begun.connect();
}

/** The chat that the page's address names. */
function keyInAddress(): string | undefined {
  try {
    const key = decodeURIComponent(location.hash.slice(1));
    return isKey(key) ? key : undefined;
  } catch {
    // Somebody has changed the address.
    return undefined;
  }
}

/** Signs in with the token that the address brings, and removes it from there. A reload uses it again. */
function signInByAddress(): void {
  const brought = new URLSearchParams(location.hash.slice(1)).get("token");
  const token = brought ?? read(tab, "token");
  const me = token === null ? undefined : host.useToken(token);
  if (brought === null || token === null || me === undefined || !isKey(`user:${me}`)) return;
  history.replaceState(null, "", location.pathname);
  write(tab, "token", token);
  write(tab, "me", me);
}

/** Takes up what this tab did before a reload. */
export function start(): void {
  const kept = read(browser, "language");
  if (kept === "en" || kept === "zh") language.value = kept;
  const look = read(browser, "theme");
  if (look === "light" || look === "dark") theme.value = look;
  effect(() => {
    document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
    document.documentElement.dataset["theme"] = theme.value;
  });
  signInByAddress();
  const me = read(tab, "me");
  if (me !== null && isKey(`user:${me}`)) begin(me);
  addEventListener("popstate", () => session.peek()?.show(keyInAddress()));
  effect(followAddress);
}

/** The chat that is open before its list is loaded, from the address or from the last time. */
function followAddress(): void {
  const now = session.value;
  if (now === undefined) return;
  const { isLoaded } = now;
  let wanted = keyInAddress() ?? now.storage.get<string>("open");
  effect(() => {
    if (session.value !== now || wanted === undefined) return;
    // Chats of the last visit are shown before the server has answered.
    if (now.open.peek() === undefined) now.show(wanted);
    if (isLoaded.value || now.open.peek() === wanted) wanted = undefined;
  });
  effect(() => {
    const open = now.open.value;
    if (session.peek() !== now || wanted !== undefined) return;
    const hash = open === undefined ? "" : `#${encodeURIComponent(open)}`;
    if (location.hash === hash) return;
    // One entry of the browser's history for the list, and one for the open chat.
    const wasOpen = location.hash !== "";
    if (wasOpen) history.replaceState(open === undefined ? null : history.state, "", location.pathname + hash);
    else history.pushState(OF_CHAT, "", location.pathname + hash);
  });
}

/** Marks the entry of the browser's history that the page has made for an open chat. */
const OF_CHAT = "chat";

/** Goes back to the list, as the browser's own button does. */
export function leaveChat(): void {
  if (history.state === OF_CHAT) history.back();
  else session.peek()?.show(undefined);
}
