/** What the React hooks show: conversations and messages as values that are replaced when they change. */

import type { ChatClient, Outgoing } from "./client.js";
import type { ChatError } from "./errors.js";
import type { AnyContent, Content, Conversation, ConversationAddress, HistoryMessage, Message } from "./protocol.js";

/** A message to show. Those of this user that have no id yet have their `requestId` as `id`. */
export interface ShownMessage<C extends AnyContent = Content> {
  id: string;
  senderId: string;
  /** Left out if the message was recalled. */
  content?: C;
  /** In milliseconds since the Unix epoch. */
  timestamp: number;
  /** When the message was recalled. */
  recalledAt?: number;
  /** Left out if the message is stored. */
  state?: "sending" | "failed";
  /** Why it failed. */
  error?: ChatError;
}

/** The messages of a conversation, the oldest first. */
export interface Messages<C extends AnyContent = Content> {
  messages: readonly ShownMessage<C>[];
  /** Whether the server has older messages. */
  hasOlder: boolean;
  /** Whether the server was not asked yet. Kept messages are shown meanwhile. */
  isLoading: boolean;
  /** Why the last question to the server failed. The next connection asks again. */
  error?: ChatError;
}

/** The conversations, the one with the newest message first. */
export interface Conversations<C extends AnyContent = Content> {
  conversations: readonly Conversation<C>[];
  isLoading: boolean;
  error?: ChatError;
}

/** How many messages are read at once, and kept in the store. */
const PAGE = 50;

/** A friend is shown as typing for this long. */
const TYPING_MS = 5_000;

export const NO_MESSAGES: Messages<never> = { messages: [], hasOlder: false, isLoading: true };
export const NO_CONVERSATIONS: Conversations<never> = { conversations: [], isLoading: true };

/** One conversation. */
interface Chat<C extends AnyContent> {
  view: Messages<C>;
  /** The number of components that show it. */
  watchers: number;
  /** The newest message that was marked as read. */
  readUntil: string;
}

const keyOf = (of: ConversationAddress) => ("groupId" in of ? `group ${of.groupId}` : `user ${of.userId}`);
const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
const lastId = ({ last }: Conversation<AnyContent>) => last?.id ?? "";

export class Model<C extends AnyContent> {
  list: Conversations<C> = NO_CONVERSATIONS;
  readonly #client: ChatClient<C>;
  readonly #userId: string;
  readonly #chats = new Map<string, Chat<C>>();
  readonly #typing = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #subscribers = new Set<() => void>();
  #listWatchers = 0;

  constructor(client: ChatClient<C>, userId: string) {
    this.#client = client;
    this.#userId = userId;
  }

  readonly subscribe = (subscriber: () => void): (() => void) => {
    this.#subscribers.add(subscriber);
    return () => void this.#subscribers.delete(subscriber);
  };

  /** Connects. Returns a function that disconnects. */
  start(): () => void {
    const client = this.#client;
    const ends = [
      client.on("message", (message) => this.#arrived(message)),
      client.on("outgoing", (outgoing) => this.#outgoing(outgoing)),
      client.on("recalled", (recalled) => {
        const key = this.#keyOf(recalled);
        const recall = <M extends { id: string }>(one: M): M => {
          if (one.id !== recalled.id) return one;
          return { ...one, content: undefined, recalledAt: recalled.timestamp };
        };
        this.#show(key, { messages: this.#chatOf(key).view.messages.map(recall) });
        this.#patch(key, ({ last }) => last && { last: recall(last) });
      }),
      client.on("read", ({ readerId, until, ...of }) => {
        const own = readerId === this.#userId;
        this.#patch(keyOf(of), (old) => {
          if (!own) return { peerReadUntil: until };
          return { readUntil: until, ...(until < lastId(old) ? {} : { unread: 0 }) };
        });
      }),
      client.on("typing", ({ senderId }) => this.#types(senderId, true)),
      client.on("group", () => void this.#loadList()),
      client.on("state", (state) => {
        if (state === "catching_up") this.#loadAll();
        this.#changed();
      }),
    ];
    client.connect();
    return () => {
      for (const end of ends) end();
      void client.close();
    };
  }

  chat(of: ConversationAddress): Chat<C> {
    return this.#chatOf(keyOf(of));
  }

  /** Loads a conversation, and again with each connection. Returns a function that ends that. */
  watch(of: ConversationAddress): () => void {
    const chat = this.chat(of);
    chat.watchers++;
    if (chat.view.isLoading) {
      void this.#kept<ShownMessage<C>[]>(keyOf(of), (kept) => chat.view.isLoading && this.#add(keyOf(of), kept));
    }
    void this.#load(of);
    return () => void chat.watchers--;
  }

  /** The same for the list of conversations. */
  watchList(): () => void {
    this.#listWatchers++;
    if (this.list.isLoading) void this.#kept<Conversation<C>[]>("list", (kept) => this.#showList(kept, true));
    void this.#loadList();
    return () => void this.#listWatchers--;
  }

  async loadOlder(of: ConversationAddress): Promise<void> {
    const { view } = this.chat(of);
    if (view.hasOlder) await this.#load(of, view.messages[0]?.id);
  }

  /** Marks what is shown as read. */
  markRead(of: ConversationAddress): void {
    const chat = this.chat(of);
    const newest = chat.view.messages.filter(({ state, senderId }) => !state && senderId !== this.#userId).pop();
    if (!newest || newest.id <= chat.readUntil) return;
    chat.readUntil = newest.id;
    // The next mark covers this one.
    this.#client.api.markRead(of, newest.id).catch(() => (chat.readUntil = ""));
  }

  /** Takes a message that failed out of the list. */
  discard(of: ConversationAddress, id: string): void {
    this.#show(keyOf(of), { messages: this.chat(of).view.messages.filter((one) => one.id !== id) });
  }

  isTyping(userId: string): boolean {
    return this.#typing.has(userId);
  }

  get #isConnected(): boolean {
    return this.#client.state === "catching_up" || this.#client.state === "online";
  }

  #loadAll(): void {
    void this.#loadList();
    for (const key of this.#chats.keys()) {
      const id = key.slice(key.indexOf(" ") + 1);
      void this.#load(key.startsWith("group ") ? { groupId: id } : { userId: id });
    }
  }

  async #load(of: ConversationAddress, before?: string): Promise<void> {
    const key = keyOf(of);
    if (!this.#isConnected || !this.chat(of).watchers) return;
    try {
      const { messages, hasMore } = await this.#client.api.history(of, { before, limit: PAGE });
      const { view } = this.chat(of);
      const stored = view.messages.filter(({ state }) => !state);
      const [oldest] = messages;
      // After a long time without connection, messages between the kept ones and these are unknown.
      const isBeyond = !before && hasMore && oldest && !stored.some(({ id }) => id >= oldest.id);
      const isWithin = !before && !isBeyond && oldest && stored[0] && stored[0].id < oldest.id;
      this.#add(key, messages, isBeyond ? view.messages.filter(({ state }) => state) : view.messages, {
        isLoading: false,
        hasOlder: isWithin && !view.isLoading ? view.hasOlder : hasMore,
      });
    } catch (error) {
      this.#show(key, { isLoading: false, error: error as ChatError });
    }
  }

  async #loadList(): Promise<void> {
    if (!this.#isConnected || !this.#listWatchers) return;
    try {
      const all: Conversation<C>[] = [];
      let after: string | undefined;
      do {
        const page = await this.#client.api.conversations({ after });
        all.push(...page.conversations);
        after = page.next;
      } while (after !== undefined);
      this.#showList(all, false);
    } catch (error) {
      this.list = { ...this.list, isLoading: false, error: error as ChatError };
      this.#changed();
    }
  }

  #arrived(message: Message<C>): void {
    const { senderId, id } = message;
    const isOwn = senderId === this.#userId;
    const key = this.#keyOf(message);
    this.#types(senderId, false);
    this.#add(key, [message]);
    const isKnown = this.#patch(key, ({ last, unread, ...more }) => ({
      last: last && last.id > id ? last : message,
      unread: isOwn ? unread : Math.min(unread + 1, 100),
      // Who answers has read what came before.
      ...(!isOwn && "userId" in more ? { peerReadUntil: id } : {}),
    }));
    if (!isKnown) void this.#loadList();
  }

  #outgoing({ requestId, to, content, at, receipt, error }: Outgoing<C>): void {
    const senderId = this.#userId;
    const key = this.#keyOf({ senderId, ...to });
    const others = this.#chatOf(key).view.messages.filter(({ id }) => id !== requestId);
    const fields = "groupId" in to ? { type: "multicast" as const, ...to } : { type: "unicast" as const, ...to };
    if (receipt) {
      this.#show(key, { messages: others });
      return this.#arrived({ ...fields, ...receipt, senderId, content } as Message<C>);
    }
    if (error?.code === "sent_elsewhere") return this.#show(key, { messages: others });
    const shown = { id: requestId, senderId, content, timestamp: at, state: error ? ("failed" as const) : ("sending" as const) };
    this.#show(key, { messages: [...others, error ? { ...shown, error } : shown] });
  }

  #types(userId: string, isTyping: boolean): void {
    if (!isTyping && !this.#typing.has(userId)) return;
    clearTimeout(this.#typing.get(userId));
    this.#typing.delete(userId);
    if (isTyping) this.#typing.set(userId, setTimeout(() => this.#types(userId, false), TYPING_MS));
    this.#changed();
  }

  /** The conversation of a message: a private one is named after the other user. */
  #keyOf({ senderId, ...to }: { senderId: string; receiverId?: string; groupId?: string }): string {
    if (to.groupId !== undefined) return `group ${to.groupId}`;
    return `user ${senderId === this.#userId ? to.receiverId : senderId}`;
  }

  #chatOf(key: string): Chat<C> {
    const chat = this.#chats.get(key) ?? { view: NO_MESSAGES, watchers: 0, readUntil: "" };
    this.#chats.set(key, chat);
    return chat;
  }

  /** Adds stored messages. What was recalled stays so. Unsent messages are last. */
  #add(
    key: string,
    messages: readonly (ShownMessage<C> | HistoryMessage<C>)[],
    shown = this.#chatOf(key).view.messages,
    more: Partial<Messages<C>> = {},
  ): void {
    const all = new Map<string, ShownMessage<C>>();
    for (const one of [...messages, ...shown] as ShownMessage<C>[]) {
      if (!one.state && (one.recalledAt || !all.get(one.id)?.recalledAt)) all.set(one.id, one);
    }
    this.#show(key, { messages: [...[...all.values()].sort(byId), ...shown.filter(({ state }) => state)], ...more });
  }

  #show(key: string, change: Partial<Messages<C>>): void {
    const chat = this.#chatOf(key);
    const { error: _, ...view } = chat.view;
    chat.view = { ...view, ...change };
    const stored = chat.view.messages.filter(({ state }) => !state);
    // Without a question to the server, these may be a part of what is kept.
    if (!chat.view.isLoading) this.#keep(key, stored.slice(-PAGE));
    this.#changed();
  }

  #showList(conversations: readonly Conversation<C>[], isKept: boolean): void {
    if (isKept && !this.list.isLoading) return;
    const sorted = [...conversations].sort((a, b) => (lastId(a) < lastId(b) ? 1 : -1));
    this.list = { conversations: sorted, isLoading: isKept };
    if (!isKept) this.#keep("list", sorted);
    this.#changed();
  }

  /** Changes a conversation of the list. Returns whether it is there. */
  #patch(key: string, change: (old: Conversation<C>) => Partial<Conversation<C>> | undefined): boolean {
    const { conversations, isLoading } = this.list;
    const index = conversations.findIndex((one) => keyOf(one) === key);
    const old = conversations[index];
    if (!old) return false;
    const changed = { ...old, ...change(old) } as Conversation<C>;
    this.#showList(conversations.map((one) => (one === old ? changed : one)), isLoading);
    return true;
  }

  /** Reads a kept value. A store that fails is reported by the client. */
  async #kept<T>(key: string, show: (kept: T) => void): Promise<void> {
    const kept = await this.#client.store?.get<T>(key).catch(() => undefined);
    if (kept) show(kept);
  }

  #keep(key: string, value: unknown): void {
    this.#client.store?.set(key, value).catch(() => {});
  }

  #changed(): void {
    for (const subscriber of this.#subscribers) subscriber();
  }
}
