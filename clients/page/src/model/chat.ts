/** One chat: what is known of it, and its messages. */

import { batch, computed, signal } from "@preact/signals";
import type { Conversation, Group, HistoryMessage, HistoryPage, RecalledFrame } from "serverless-chat-client";
import { idOf, isGroup, type ChatKey } from "./key.js";
import { countAfter, insert, newest, oldest, recall, recalled, type Log } from "./log.js";

/** How long a friend is shown as typing. */
const TYPING_MS = 5_000;

/** A signal this soon after a message of the friend is one that the message has overtaken. */
const OVERTAKEN_MS = 1_000;

export class Chat {
  readonly key: ChatKey;
  readonly name = signal("");
  /** The messages that are loaded, without a gap up to the newest. */
  readonly log = signal<Log>([]);
  /** Whether there are older messages than those of the log. Undefined until the server has told. */
  readonly hasOlder = signal<boolean | undefined>(undefined);
  /** The last message, even if the log is not loaded. */
  readonly last = signal<HistoryMessage | undefined>(undefined);
  readonly unread = signal(0);
  readonly unreadMore = signal(false);
  readonly readUntil = signal("");
  readonly peerReadUntil = signal("");
  readonly isTyping = signal(false);
  /** The members, if they are loaded. */
  readonly group = signal<Group | undefined>(undefined);
  /** When something was said last. Empty if nothing was. */
  readonly activity = computed(() => this.last.value?.id ?? "");
  /** Where the page before the log begins, if the server has said so. */
  olderFrom: string | undefined;
  /** The server may have messages that the log lacks. */
  isStale = true;
  /** It is in no list of the server, since it is with somebody who is no friend. */
  isStranger = false;
  /** Before this the server has counted the unread messages. */
  #countedUntil = "";
  #typingTimer = 0;
  /** When a message of the friend came last. */
  #heardAt = 0;
  readonly #me: string;

  constructor(key: ChatKey, me: string) {
    this.key = key;
    this.#me = me;
    this.name.value = isGroup(key) ? "" : idOf(key);
  }

  /** Takes what the server's list says. Returns whether the user has read more than the server knows. */
  listed(conversation: Conversation): boolean {
    const { last, unread, readUntil = "" } = conversation;
    const isAhead = readUntil < this.readUntil.peek();
    batch(() => {
      if (conversation.type === "multicast") this.name.value = conversation.name;
      else this.peerReads(conversation.peerReadUntil ?? "");
      this.isStranger = false;
      if (last !== undefined && last.id >= this.activity.peek()) this.last.value = last;
      if (isAhead) return;
      this.readUntil.value = readUntil;
      this.#countedUntil = last?.id ?? "";
      this.unread.value = unread;
      this.unreadMore.value = conversation.unreadMore === true;
    });
    return isAhead;
  }

  /** Takes a message that was just sent or received. The log then keeps so many chunks. */
  add(message: HistoryMessage, maxChunks: number): void {
    batch(() => {
      const isNew = message.id > this.#countedUntil && message.id > this.readUntil.peek();
      const isKnown = insert(this.log.peek(), [message]) === this.log.peek();
      if (isKnown) return;
      this.#insert([message]);
      const log = this.log.peek();
      if (log.length > maxChunks) {
        this.log.value = log.slice(-maxChunks);
        this.hasOlder.value = true;
        this.olderFrom = undefined;
      }
      if (message.senderId === this.#me) return;
      this.peerReads(message.id);
      this.#heardAt = Date.now();
      this.stopTyping();
      if (isNew) this.unread.value += 1;
    });
  }

  /** Takes the newest page of the history. */
  addNewest({ messages, hasMore, next }: HistoryPage): void {
    batch(() => {
      const log = this.log.peek();
      const first = messages[0];
      const isGap = hasMore && first !== undefined && first.id > (newest(log)?.id ?? "");
      // What lies before the gap is loaded again when the user scrolls there.
      if (isGap) this.log.value = [];
      const end = oldest(this.log.peek())?.id;
      this.#insert(messages);
      if (this.hasOlder.peek() === undefined || isGap || end === undefined || (first && first.id < end)) {
        this.hasOlder.value = hasMore;
        this.olderFrom = first === undefined || first.id === oldest(this.log.peek())?.id ? next : undefined;
      }
      this.isStale = false;
    });
  }

  /** Takes the page before the message that was the oldest of the log when the page was asked for. */
  addOlder({ messages, hasMore, next }: HistoryPage, start: string | undefined): void {
    // If the start of the log was removed meanwhile, this page would leave a gap.
    if (oldest(this.log.peek())?.id !== start) return;
    batch(() => {
      this.#insert(messages);
      this.hasOlder.value = hasMore;
      this.olderFrom = next;
    });
  }

  recall(frame: RecalledFrame): void {
    this.log.value = recall(this.log.peek(), frame);
    const last = this.last.peek();
    if (last?.id === frame.id && !last.recalledAt) this.last.value = recalled(last, frame.timestamp);
  }

  /** The user has read up to a message, here or elsewhere. Returns false if that was known. */
  read(until: string): boolean {
    if (until <= this.readUntil.peek()) return false;
    batch(() => {
      const log = this.log.peek();
      const start = oldest(log)?.id;
      const isLoaded = start !== undefined && start <= until;
      this.readUntil.value = until;
      if (isLoaded || until >= this.activity.peek()) {
        this.unread.value = countAfter(log, until, this.#me);
        this.unreadMore.value = false;
      }
    });
    return true;
  }

  /** The friend has read up to a message. */
  peerReads(until: string): void {
    if (until > this.peerReadUntil.peek()) this.peerReadUntil.value = until;
  }

  typing(): void {
    if (Date.now() - this.#heardAt < OVERTAKEN_MS) return;
    this.isTyping.value = true;
    clearTimeout(this.#typingTimer);
    this.#typingTimer = window.setTimeout(() => this.stopTyping(), TYPING_MS);
  }

  stopTyping(): void {
    clearTimeout(this.#typingTimer);
    this.isTyping.value = false;
  }

  #insert(messages: readonly HistoryMessage[]): void {
    this.log.value = insert(this.log.peek(), messages);
    const last = newest(this.log.peek());
    if (last !== undefined && last.id >= this.activity.peek()) this.last.value = last;
  }
}
