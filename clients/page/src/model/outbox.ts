/**
 * The messages that this user has written and the server has not confirmed. They survive being offline, a reload, and
 * the end of the tab. Each has one `requestId` for all attempts, so it is stored once. All tabs of the user share them,
 * and learn of each other's changes late. So tabs that send the same item at the same moment use the same `requestId`.
 */

import { signal, type ReadonlySignal } from "@preact/signals";
import { ChatError, type ChatApi, type ChatClient, type Content, type HistoryMessage } from "serverless-chat-client";
import type { Refusal } from "./errors.js";
import { addressOf, conversationOf, type ChatKey } from "./key.js";
import type { Storage } from "./storage.js";

/**
 * - `waiting`: for a connection, or for earlier messages of the chat.
 * - `sending`: given to the client, which repeats it until it is confirmed.
 * - `failed`: refused. Nothing was stored.
 * - `unsure`: not confirmed in time. It may have been stored.
 */
export type Status = "waiting" | "sending" | "failed" | "unsure";

export interface Item {
  readonly requestId: string;
  readonly key: ChatKey;
  readonly content: Content;
  readonly createdAt: number;
  readonly status: Status;
  /** When it was first given to the client. From then on the server may have it. */
  readonly sentAt?: number | undefined;
  /** The last message of the chat that was known then. If the server has the item, it comes after this. */
  readonly after?: string | undefined;
  /** Why it was refused. */
  readonly error?: Refusal | undefined;
}

/** The server forgets a `requestId` after ten minutes. */
const IDEMPOTENT_MS = 9 * 60_000;

/** A message may appear in a history this late. */
const SETTLED_MS = 12 * 60_000;

/** The id before all others. */
const FIRST_ID = "0".repeat(26);

/** The number of pages of a history in which a message is looked for. */
const PAGES = 20;

const PREFIX = "outbox/";

export interface OutboxSettings {
  me: string;
  storage: Storage;
  /** Whether the client has a connection. */
  isConnected: () => boolean;
  client: () => ChatClient;
  /** The last message of a chat, if it is known. */
  lastOf: (key: ChatKey) => string | undefined;
  /** Called when the server has confirmed an item. */
  stored: (item: Item, receipt: { id: string; timestamp: number }) => void;
}

export class Outbox {
  readonly #settings: OutboxSettings;
  readonly #items = signal<readonly Item[]>([]);
  /** The messages that were found for items. An equal item is another message. */
  readonly #found = new Set<string>();
  /** The items that the browser has kept. If it has one no more, another tab has sent or deleted it. */
  readonly #kept = new Set<string>();
  readonly #forget: () => void;
  /** The user has signed out. What the client still reports must not be kept. */
  #isClosed = false;

  constructor(settings: OutboxSettings) {
    this.#settings = settings;
    const { storage } = settings;
    this.adopt();
    // Another tab of the user has sent or deleted an item.
    this.#forget = storage.onChange(PREFIX, (name) => {
      const there = this.#find(name.slice(PREFIX.length));
      if (storage.get(name) === undefined && there && there.status !== "sending") this.#drop(there.requestId);
    });
  }

  /** Takes over the items of tabs that have ended. If one lives, both send, and the server stores one of them. */
  adopt(): void {
    const { storage } = this.#settings;
    for (const name of storage.names(PREFIX)) {
      const item = storage.get<Item>(name);
      if (item !== undefined && !this.#find(item.requestId)) this.#adopt(item);
    }
  }

  #adopt(item: Item): void {
    // The client that it was given to may be gone.
    this.#put(item.status === "sending" ? { ...item, status: "waiting" } : item);
  }

  /** The items that are lost if the browser forgets them: those of this tab, and those that others have added since. */
  unsent(): string[] {
    const kept = this.#settings.storage.names(PREFIX).map((name) => name.slice(PREFIX.length));
    return [...new Set([...kept, ...this.#items.peek().map(({ requestId }) => requestId)])];
  }

  /** The items of all chats, the oldest first. */
  get items(): ReadonlySignal<readonly Item[]> {
    return this.#items;
  }

  of(key: ChatKey): Item[] {
    return this.#items.value.filter((item) => item.key === key);
  }

  add(key: ChatKey, content: Content): void {
    // Two items of one moment keep their order: `sort` is stable, and the names are in no order.
    const createdAt = Math.max(Date.now(), (this.#items.peek().at(-1)?.createdAt ?? 0) + 1);
    this.#put({ requestId: newRequestId(), key, content, createdAt, status: "waiting" });
    this.pump();
  }

  /** Gives the client what can be sent now: of each chat the oldest item, if no earlier one is under way. */
  pump(): void {
    if (!this.#settings.isConnected()) return;
    const busy = new Set(this.#items.peek().filter(({ status }) => status === "sending").map(({ key }) => key));
    for (const item of this.#items.peek()) {
      if (item.status !== "waiting" || busy.has(item.key)) continue;
      const current = this.#current(item);
      if (current === undefined) {
        this.#drop(item.requestId);
        continue;
      }
      busy.add(item.key);
      void this.#send(current);
    }
  }

  /** Sends a refused item again, by a new id. It was not stored, or the user accepts that it comes twice. */
  again(item: Item): void {
    this.#drop(item.requestId);
    const requestId = nextRequestId(item.requestId);
    if (this.#find(requestId) === undefined) {
      // Another tab may already have sent it again.
      const there = this.#settings.storage.get<Item>(PREFIX + requestId);
      this.#adopt(there ?? { ...item, requestId, status: "waiting", sentAt: undefined, error: undefined });
    }
    this.pump();
  }

  delete(item: Item): void {
    this.#drop(item.requestId);
    this.pump();
  }

  /** Stops watching other tabs, and keeps nothing any more. */
  close(): void {
    this.#isClosed = true;
    this.#forget();
  }

  async #send(item: Item): Promise<void> {
    const { client, lastOf } = this.#settings;
    if (item.sentAt !== undefined && Date.now() - item.sentAt > IDEMPOTENT_MS) return this.#settle(item);
    const { key, content, requestId } = item;
    const { sentAt = Date.now(), after = lastOf(key) } = item;
    const sent: Item = { ...item, status: "sending", sentAt, after };
    this.#put(sent);
    const to = addressOf(key);
    try {
      const receipt = await ("groupId" in to
        ? client().sendToGroup(to.groupId, content, { requestId })
        : client().sendToUser(to.receiverId, content, { requestId }));
      this.#drop(requestId);
      this.#settings.stored(sent, receipt);
    } catch (error) {
      this.#refused(sent, error);
    }
    this.pump();
  }

  #refused(item: Item, error: unknown): void {
    const { code, message, until } = error instanceof ChatError ? error : new ChatError("other", String(error));
    // The user went offline, or left the page. Within the time of its requestId, it can be sent again.
    if (code === "closed") return this.#put({ ...item, status: "waiting" });
    const status = code === "unacknowledged" ? "unsure" : "failed";
    this.#put({ ...item, status, error: { code, message, until } });
  }

  /**
   * The server has forgotten the `requestId`, so sending again could store it twice. The history tells whether it was
   * stored. If it was not, and cannot appear any more, it is sent as a new one.
   */
  async #settle(item: Item): Promise<void> {
    this.#put({ ...item, status: "unsure" });
    const { client, me, stored } = this.#settings;
    const isNew = ({ id, senderId }: HistoryMessage) => senderId === me && !this.#found.has(id);
    const found = await findIn(client().api, item, isNew).catch(() => undefined);
    if (found === undefined || this.#find(item.requestId) === undefined) return;
    if (this.#current(item) === undefined) return this.#drop(item.requestId);
    if (found !== "nowhere") {
      this.#found.add(found.id);
      this.#drop(item.requestId);
      stored(item, found);
    } else if (Date.now() - (item.sentAt ?? 0) > SETTLED_MS) {
      this.again(item);
    }
  }

  /**
   * The item with the time at which the first tab has sent it. Undefined if another tab has sent or deleted it. An event
   * does not tell this if the tab was asleep.
   */
  #current(item: Item): Item | undefined {
    const kept = this.#settings.storage.get<Item>(PREFIX + item.requestId);
    if (kept === undefined) return this.#kept.has(item.requestId) ? undefined : item;
    const { sentAt, after } = (kept.sentAt ?? Infinity) < (item.sentAt ?? Infinity) ? kept : item;
    return { ...item, sentAt, after };
  }

  #put(item: Item): void {
    const { requestId } = item;
    if (!this.#isClosed && this.#settings.storage.set(PREFIX + requestId, item)) this.#kept.add(requestId);
    const others = this.#items.peek().filter((other) => other.requestId !== requestId);
    this.#items.value = [...others, item].sort((a, b) => a.createdAt - b.createdAt);
  }

  #drop(requestId: string): void {
    this.#settings.storage.set(PREFIX + requestId, undefined);
    this.#kept.delete(requestId);
    this.#items.value = this.#items.peek().filter((other) => other.requestId !== requestId);
  }

  #find(requestId: string): Item | undefined {
    return this.#items.peek().find((item) => item.requestId === requestId);
  }
}

/** Looks for the message of an item in the history of its chat. Returns undefined if the history is too long. */
async function findIn(
  api: ChatApi,
  { key, content, after = FIRST_ID }: Item,
  isNew: (message: HistoryMessage) => boolean,
): Promise<HistoryMessage | "nowhere" | undefined> {
  const text = JSON.stringify(content);
  let next: string | undefined = after;
  for (let page = 0; page < PAGES && next !== undefined; page++) {
    const answer = await api.history(conversationOf(key), { after: next, limit: 100 });
    const found = answer.messages.find((message) => isNew(message) && JSON.stringify(message.content) === text);
    if (found !== undefined) return found;
    next = answer.next;
  }
  return next === undefined ? "nowhere" : undefined;
}

/** 128 random bits. */
function newRequestId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The id of the next attempt. All tabs derive the same one, so if two of them send it, the server stores it once. */
function nextRequestId(requestId: string): string {
  const [first, attempt = "1"] = requestId.split("-");
  return `${first}-${Number(attempt) + 1}`;
}
