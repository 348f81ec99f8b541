/** What the React hooks show: conversations and messages as values that are replaced when they change. */

import type { ConversationsPage } from "./api.js";
import type { ChatClient, ChatEvents, Listener } from "./client.js";
import type { ChatError } from "./errors.js";
import type {
  AnyContent,
  Content,
  Conversation,
  ConversationAddress,
  HistoryMessage,
  Message,
  RecalledFrame,
  Sendable,
} from "./protocol.js";

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
  error?: ChatError | undefined;
}

/** The messages of a conversation, the oldest first, and what can be done with them. */
export interface Messages<C extends AnyContent = Content> {
  messages: readonly ShownMessage<C>[];
  /** Whether the server has older messages. */
  hasOlder: boolean;
  /** Whether the server was not asked yet. Kept messages are shown meanwhile. */
  isLoading: boolean;
  /** Why the last question to the server failed. The next connection asks again. */
  error?: ChatError | undefined;
  /** Sends. The message is in `messages` at once. If it fails, its `state` says so. */
  send(content: Sendable<C>): void;
  /** Sends the content of a message that failed again, as a new message. */
  retry(message: ShownMessage<C>): void;
  /** Reads the next older messages. */
  loadOlder(): Promise<void>;
  /** Marks the messages as read. Call it when the user sees them. */
  markRead(): void;
}

/** A conversation, as the hooks show it. */
export type ListedConversation<C extends AnyContent = Content> = Conversation<C> & {
  /** Whether the server does not list it: a message came from a user who is no friend. */
  isUnlisted?: boolean;
};

/** The conversations, the one with the newest message first. The 1,000 newest are shown. */
export interface Conversations<C extends AnyContent = Content> {
  conversations: readonly ListedConversation<C>[];
  /** Whether the server has not answered yet. Kept conversations are shown meanwhile. */
  isLoading: boolean;
}

/** One conversation. */
interface Chat<C extends AnyContent> {
  /** What a server shows, and a page that it has rendered shows at first. */
  readonly first: Messages<C>;
  readonly view: Messages<C>;
  /** Adds a stored message. */
  add(message: Message<C>): void;
  recall(recalled: RecalledFrame): void;
  /** Replaces a message of this user without an id, or removes it. */
  replace(id: string, instead?: ShownMessage<C>): void;
  /** Reads the newest messages, or those before an id. */
  load(before?: string): Promise<void>;
  /** Loads it, and again with each connection. Returns a function that ends that. */
  watch(): () => void;
}

/** How many messages are read at once, kept in the store, and remembered while no component shows them. */
const PAGE = 50;

/** How many conversations are shown at most, and how many messages before a new one replaces the oldest. */
const MAX_SHOWN = 1_000;

/** The pause after the list was loaded for a conversation that it does not have. */
const UNLISTED_MS = 60_000;

/** A friend is shown as typing for this long. */
const TYPING_MS = 5_000;

export const NO_CONVERSATIONS: Conversations<never> = { conversations: [], isLoading: true };

const keyOf = (of: ConversationAddress) => ("groupId" in of ? `group ${of.groupId}` : `user ${of.userId}`);
const lastId = ({ last }: Conversation<AnyContent>) => last?.id ?? "";
const ignore = () => {};

/** Recalls a message if it is this one. */
const recalledBy = ({ id, timestamp }: RecalledFrame) => <M extends { id: string }>(one: M): M =>
  one.id === id ? { ...one, content: undefined, recalledAt: timestamp } : one;

export type Model<C extends AnyContent> = ReturnType<typeof createModel<C>>;

/** Makes the model of a user. A function with variables is a third smaller than a class with fields. */
export function createModel<C extends AnyContent>(client: ChatClient<C>, userId: string) {
  const { store } = client;
  let list: Conversations<C> = NO_CONVERSATIONS;
  /** Whether a component has shown the list. */
  let isListed = false;
  /** Resolves when the list is not being loaded. */
  let loaded = Promise.resolve();
  /** Whether the list will be loaded. */
  let isStale = false;
  /** Ends the pause after a load for a conversation that the list did not have. */
  let pause: ReturnType<typeof setTimeout> | undefined;
  /** Whether another such conversation came in the pause. */
  let isAsked = false;
  /** Whether the user may have signed out. */
  let hasEnded = false;
  const chats = new Map<string, Chat<C>>();
  /** The timers that end the typing of friends. */
  const typing = new Map<string, ReturnType<typeof setTimeout>>();
  const subscribers = new Set<() => void>();

  const changed = () => subscribers.forEach((subscriber) => subscriber());
  const isConnected = () => /catching_up|online/.test(client.state);

  /** Reads a kept value. A store that fails is reported by the client. */
  const kept = <T>(key: string, show: (kept: T) => void) => {
    store?.get<T>(key).then((value) => value && show(value), ignore);
  };
  const keep = (key: string, value: unknown) => {
    // The application may have cleared the store.
    if (!hasEnded) store?.set(key, value).catch(ignore);
  };

  const createChat = (of: ConversationAddress): Chat<C> => {
    const key = keyOf(of);
    /** Sorted by id. */
    let stored: ShownMessage<C>[] = [];
    /** Messages of this user without an id, in the order of their sends. */
    let unsent: ShownMessage<C>[] = [];
    /** The number of components that show it. */
    let watchers = 0;
    /** The newest message that was marked as read. */
    let readUntil = "";

    const show = (more?: Partial<Messages<C>>) => {
      view = { ...view, ...more, messages: [...stored, ...unsent] };
      // Before the server was asked, these may be a part of what is kept.
      if (!view.isLoading) keep(key, stored.slice(-PAGE));
      changed();
    };

    /** Adds stored messages. What was recalled stays so. */
    const add = (messages: readonly (ShownMessage<C> | HistoryMessage<C>)[], more?: Partial<Messages<C>>) => {
      const all = new Map(stored.map((one) => [one.id, one]));
      for (const one of messages as ShownMessage<C>[]) if (!all.get(one.id)?.recalledAt) all.set(one.id, one);
      stored = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
      show(more);
    };

    const load = async (before?: string) => {
      if (!isConnected() || !watchers) return;
      try {
        const { messages, hasMore } = await client.api.history(of, { before, limit: PAGE });
        // The oldest messages were replaced meanwhile, so this page would leave a gap.
        if (before && stored[0]?.id !== before) return;
        const first = messages[0]?.id ?? "";
        // After a long time without connection, messages between the known ones and these are unknown.
        if (!before && hasMore && !stored.some(({ id }) => id >= first)) stored = [];
        const isKnown = !before && (stored[0]?.id ?? first) < first;
        add(messages, { isLoading: false, hasOlder: isKnown ? view.hasOlder : hasMore, error: undefined });
      } catch (error) {
        show({ isLoading: false, error: error as ChatError });
      }
    };

    const replace = (id: string, instead?: ShownMessage<C>) => {
      unsent = unsent.filter((one) => one.id !== id);
      if (instead) unsent.push(instead);
      show();
    };

    const send = (content: Sendable<C>) => {
      const sent = "groupId" in of ? client.sendToGroup(of.groupId, content) : client.sendToUser(of.userId, content);
      // The list shows the failure.
      sent.catch(ignore);
    };

    const first: Messages<C> = {
      messages: [],
      hasOlder: false,
      isLoading: true,
      send,
      retry: ({ id, content, error }) => {
        replace(id);
        // A refused one is not kept. Another message may wait under its id.
        if (error?.code !== "bad_request") store?.forget(id).catch(ignore);
        send(content as Sendable<C>);
      },
      loadOlder: async () => {
        if (view.hasOlder) await load(stored[0]?.id);
      },
      markRead: () => {
        const newest = stored.filter(({ senderId }) => senderId !== userId).pop()?.id ?? "";
        if (newest <= readUntil) return;
        readUntil = newest;
        // The next mark covers this one.
        client.api.markRead(of, newest).catch(() => (readUntil = ""));
      },
    };
    let view = first;

    return {
      first,
      load,
      replace,
      get view() {
        return view;
      },
      add(message) {
        const max = watchers ? MAX_SHOWN : PAGE;
        const hasOlder = view.hasOlder || stored.length >= max;
        stored = stored.slice(1 - max);
        add([message], { hasOlder });
      },
      recall(recalled) {
        stored = stored.map(recalledBy(recalled));
        show();
      },
      watch() {
        watchers++;
        kept<ShownMessage<C>[]>(key, (messages) => {
          if (view.isLoading) add(messages, { hasOlder: messages.length === PAGE });
        });
        void load();
        return () => void watchers--;
      },
    };
  };

  const chatWith = (of: ConversationAddress): Chat<C> => {
    const key = keyOf(of);
    const chat = chats.get(key) ?? createChat(of);
    chats.set(key, chat);
    return chat;
  };

  /** The conversation of a message: a private one is with the other user. */
  const addressOf = ({ senderId, groupId, receiverId }: MessageAddress): ConversationAddress =>
    groupId ? { groupId } : { userId: senderId === userId ? receiverId! : senderId };

  const showList = (conversations: readonly ListedConversation<C>[], isLoading: boolean) => {
    const sorted = [...conversations].sort((a, b) => (lastId(a) < lastId(b) ? 1 : -1));
    list = { conversations: sorted.slice(0, MAX_SHOWN), isLoading };
    if (!isLoading) keep("list", sorted.filter((one) => !one.isUnlisted).slice(0, 2 * PAGE));
    changed();
  };

  /** Loads the list. While it is loaded, any number of calls loads it once more. */
  const loadList = () => {
    if (isStale) return;
    isStale = true;
    loaded = loaded.then(async () => {
      isStale = false;
      if (!isListed || !isConnected()) return;
      const all = new Map<string, ListedConversation<C>>();
      let after: string | undefined;
      do {
        const page: ConversationsPage<C> = await client.api.conversations({ after });
        for (const one of page.conversations) all.set(keyOf(one), one);
        after = page.next;
      } while (after);
      showList([...list.conversations.filter((one) => one.isUnlisted && !all.has(keyOf(one))), ...all.values()], false);
      // If that fails, the next connection asks again.
    }).catch(ignore);
  };

  /** Loads the list for a conversation that it does not have. In the pause, any number of calls loads it at its end. */
  const ask = () => {
    isAsked = !!pause;
    if (pause || !isListed || !isConnected()) return;
    loadList();
    pause = setTimeout(() => {
      pause = undefined;
      if (isAsked) ask();
    }, UNLISTED_MS);
  };

  /** Changes a conversation of the list. Returns whether it is there. */
  const patch = (of: ConversationAddress, change: (old: ListedConversation<C>) => object | undefined): boolean => {
    let isThere = false;
    const conversations = list.conversations.map((one) => {
      if (keyOf(one) !== keyOf(of)) return one;
      isThere = true;
      return { ...one, ...change(one) };
    });
    if (isThere) showList(conversations, list.isLoading);
    return isThere;
  };

  const stopsTyping = (user: string) => {
    clearTimeout(typing.get(user));
    if (typing.delete(user)) changed();
  };

  const arrived = (message: Message<C>) => {
    const { senderId, id } = message;
    const news = senderId === userId ? 0 : 1;
    const of = addressOf(message);
    const key = keyOf(of);
    stopsTyping(senderId);
    // What no component has shown is read when it is shown.
    chats.get(key)?.add(message);
    const isThere = patch(of, ({ last, unread }) => ({
      last: last && last.id > id ? last : message,
      unread: unread + news,
      // Who answers has read what came before.
      ...(news && "userId" in of && { peerReadUntil: id }),
    }));
    if (isThere) return;
    // The server may never list a user, since the back end sends for anybody. Only the server knows a group's name.
    if ("userId" in of && !list.isLoading) {
      const added = { type: "unicast", ...of, unread: news, last: message, isUnlisted: true } as const;
      showList([...list.conversations, added], false);
      return loadList();
    }
    ask();
  };

  /** What the client tells while it is connected. */
  const listeners: { [E in keyof ChatEvents<C>]?: Listener<ChatEvents<C>[E]> } = {
    message: arrived,

    outgoing({ requestId: id, to, content, at, receipt, error }) {
      const message = { senderId: userId, content: content as C, ...to };
      const chat = chatWith(addressOf(message));
      const state = error ? "failed" : "sending";
      const isOver = receipt || error?.code === "sent_elsewhere";
      chat.replace(id, isOver ? undefined : { id, ...message, timestamp: at, state, error });
      if (receipt) arrived({ type: "groupId" in to ? "multicast" : "unicast", ...message, ...receipt } as Message<C>);
    },

    recalled(recalled) {
      const of = addressOf(recalled);
      chats.get(keyOf(of))?.recall(recalled);
      patch(of, ({ last }) => last && { last: recalledBy(recalled)(last) });
    },

    read({ readerId, until, ...of }) {
      patch(of, (old) => {
        if (readerId !== userId) return { peerReadUntil: until };
        return { readUntil: until, ...(until < lastId(old) ? {} : { unread: 0 }) };
      });
    },

    typing({ senderId }) {
      stopsTyping(senderId);
      typing.set(senderId, setTimeout(stopsTyping, TYPING_MS, senderId));
      changed();
    },

    group: loadList,

    state(state) {
      if (state === "catching_up") {
        loadList();
        chats.forEach((chat) => void chat.load());
      }
      changed();
    },
  };

  return {
    client,
    list: () => list,
    chatWith,
    isTyping: (user: string) => typing.has(user),

    subscribe(subscriber: () => void) {
      subscribers.add(subscriber);
      return () => void subscribers.delete(subscriber);
    },

    /** Connects. Returns a function that disconnects. */
    start() {
      const ends: (() => void)[] = [];
      for (const event in listeners) ends.push(client.on(event as "state", listeners[event as "state"]!));
      hasEnded = false;
      client.connect();
      return () => {
        hasEnded = true;
        clearTimeout(pause);
        pause = undefined;
        ends.forEach((end) => end());
        void client.close();
      };
    },

    /** Loads the list of conversations, and again with each connection. */
    watchList() {
      isListed = true;
      kept<ListedConversation<C>[]>("list", (conversations) => {
        if (list.isLoading) showList(conversations, true);
      });
      loadList();
    },
  };
}

interface MessageAddress {
  senderId: string;
  receiverId?: string;
  groupId?: string;
}
