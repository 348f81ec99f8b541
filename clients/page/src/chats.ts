/** The chats of a user and their messages. They last as long as the tab. */

import type { Message } from "serverless-chat-client";

/** The number of messages that a reload keeps. */
const KEPT = 500;

/** `user:<id>` or `group:<id>`. */
export type ChatKey = string;

/** A message that the server has not confirmed, or has refused. */
export interface Draft {
  text: string;
  /** The error to show if the send has failed. */
  failed?: string;
}

export const withUser = (user: string): ChatKey => `user:${user}`;
export const ofGroup = (group: string): ChatKey => `group:${group}`;
export const isGroup = (key: ChatKey): boolean => key.startsWith("group:");
export const idOf = (key: ChatKey): string => key.slice(key.indexOf(":") + 1);

const byId = (a: Message, b: Message): number => (a.id < b.id ? -1 : 1);

export class Chats {
  readonly #me: string;
  readonly #messages = new Map<ChatKey, Map<string, Message>>();
  readonly #drafts = new Map<ChatKey, Draft[]>();
  readonly #unread = new Map<ChatKey, number>();

  constructor(me: string) {
    this.#me = me;
    for (const message of this.#read()) this.#put(message);
  }

  /** The ids of all stored messages. */
  get stored(): string[] {
    return [...this.#messages.values()].flatMap((messages) => [...messages.keys()]);
  }

  keys(): ChatKey[] {
    return [...this.#messages.keys()];
  }

  messages(key: ChatKey): Message[] {
    const messages = [...(this.#messages.get(key)?.values() ?? [])];
    return messages.sort(byId);
  }

  drafts(key: ChatKey): Draft[] {
    return this.#drafts.get(key) ?? [];
  }

  unread(key: ChatKey): number {
    return this.#unread.get(key) ?? 0;
  }

  read(key: ChatKey): void {
    this.#unread.delete(key);
  }

  /** Stores a message, and returns the key of its chat. */
  add(message: Message, isRead: boolean): ChatKey {
    const key = this.#put(message);
    if (!isRead) this.#unread.set(key, this.unread(key) + 1);
    this.#write();
    return key;
  }

  draft(key: ChatKey, draft: Draft): void {
    this.#drafts.set(key, [...this.drafts(key), draft]);
  }

  undraft(key: ChatKey, draft: Draft): void {
    this.#drafts.set(key, this.drafts(key).filter((other) => other !== draft));
  }

  #put(message: Message): ChatKey {
    const key = this.#keyOf(message);
    const messages = this.#messages.get(key) ?? new Map<string, Message>();
    this.#messages.set(key, messages.set(message.id, message));
    return key;
  }

  #keyOf(message: Message): ChatKey {
    if (message.type === "multicast") return ofGroup(message.groupId);
    return withUser(message.senderId === this.#me ? message.receiverId : message.senderId);
  }

  #read(): Message[] {
    try {
      return JSON.parse(sessionStorage.getItem(this.#place) ?? "[]");
    } catch {
      return [];
    }
  }

  #write(): void {
    const all = [...this.#messages.values()].flatMap((messages) => [...messages.values()]);
    const last = all.sort(byId).slice(-KEPT);
    try {
      sessionStorage.setItem(this.#place, JSON.stringify(last));
    } catch {
      // The storage is full or forbidden. After a reload the page shows fewer messages.
    }
  }

  get #place(): string {
    return `chat/${this.#me}`;
  }
}
