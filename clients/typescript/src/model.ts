/** What the React hooks show: conversations and messages as values that are replaced when they change. */

import type { ConversationsPage } from "./api.js";
import type { ChatClient, Outgoing } from "./client.js";
import type { ChatError } from "./errors.js";
import type {
  AnyContent,
  Content,
  Conversation,
  ConversationAddress,
  HistoryMessage,
  Message,
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
  error?: ChatError;
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

/** The conversations, the one with the newest message first. */
export interface Conversations<C extends AnyContent = Content> {
  conversations: readonly Conversation<C>[];
  /** Whether the server has not answered yet. Kept conversations are shown meanwhile. */
  isLoading: boolean;
}

/** One conversation. */
export interface Chat<C extends AnyContent> {
  of: ConversationAddress;
  /** What a server shows, and a page that it has rendered shows at first. */
  first: Messages<C>;
  view: Messages<C>;
  /** Sorted by id. */
  stored: ShownMessage<C>[];
  /** Messages of this user without an id, in the order of their sends. */
  unsent: ShownMessage<C>[];
  /** The number of components that show it. */
  watchers: number;
  /** The newest message that was marked as read. */
  readUntil: string;
}

/** How many messages are read at once, and kept in the store. */
const PAGE = 50;

/** The list is loaded for a conversation that it does not have once in this time. */
const UNLISTED_MS = 60_000;

/** A friend is shown as typing for this long. */
const TYPING_MS = 5_000;

export const NO_CONVERSATIONS: Conversations<never> = { conversations: [], isLoading: true };

const keyOf = (of: ConversationAddress) => ("groupId" in of ? `group ${of.groupId}` : `user ${of.userId}`);
const lastId = ({ last }: Conversation<AnyContent>) => last?.id ?? "";

export type Model<C extends AnyContent> = ReturnType<typeof createModel<C>>;

/** Makes the model of a user. A function with variables is a third smaller than a class with fields. */
export function createModel<C extends AnyContent>(client: ChatClient<C>, userId: string) {
  let list: Conversations<C> = NO_CONVERSATIONS;
  /** Whether a component has shown the list. */
  let isListed = false;
  let isLoadingList = false;
  /** Whether the list must be loaded once more. */
  let isStale = false;
  /** When the list was loaded for conversations that it did not have. */
  const unlisted = new Map<string, number>();
  /** Whether the user may have signed out. */
  let hasEnded = false;
  const chats = new Map<string, Chat<C>>();
  const typing = new Map<string, ReturnType<typeof setTimeout>>();
  const subscribers = new Set<() => void>();

  const changed = () => subscribers.forEach((subscriber) => subscriber());
  const isConnected = () => /catching_up|online/.test(client.state);

  /** Reads a kept value. A store that fails is reported by the client. */
  const kept = <T>(key: string, show: (kept: T) => void) => {
    client.store?.get<T>(key).then((value) => value && show(value), () => {});
  };
  const keep = (key: string, value: unknown) => {
    // The application may have cleared the store.
    if (!hasEnded) client.store?.set(key, value).catch(() => {});
  };

  const show = (chat: Chat<C>, more?: Partial<Messages<C>>) => {
    chat.view = { ...chat.view, ...more, messages: [...chat.stored, ...chat.unsent] };
    // Before the server was asked, these may be a part of what is kept.
    if (!chat.view.isLoading) keep(keyOf(chat.of), chat.stored.slice(-PAGE));
    changed();
  };

  const drop = (chat: Chat<C>, id: string) => (chat.unsent = chat.unsent.filter((one) => one.id !== id));

  /** Adds stored messages. What was recalled stays so. */
  const add = (
    chat: Chat<C>,
    messages: readonly (ShownMessage<C> | HistoryMessage<C>)[],
    more?: Partial<Messages<C>>,
  ) => {
    const all = new Map(chat.stored.map((one) => [one.id, one]));
    for (const one of messages as ShownMessage<C>[]) if (!all.get(one.id)?.recalledAt) all.set(one.id, one);
    chat.stored = [...all.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    show(chat, more);
  };

  const load = async (chat: Chat<C>, before?: string) => {
    if (!isConnected() || !chat.watchers) return;
    try {
      const { messages, hasMore } = await client.api.history(chat.of, { before, limit: PAGE });
      const first = messages[0]?.id ?? "";
      // After a long time without connection, messages between the known ones and these are unknown.
      if (!before && hasMore && !chat.stored.some(({ id }) => id >= first)) chat.stored = [];
      const isKnown = !before && (chat.stored[0]?.id ?? first) < first;
      const hasOlder = isKnown ? chat.view.hasOlder : hasMore;
      add(chat, messages, { isLoading: false, hasOlder, error: undefined });
    } catch (error) {
      show(chat, { isLoading: false, error: error as ChatError });
    }
  };

  const chatWith = (of: ConversationAddress): Chat<C> => {
    const key = keyOf(of);
    let chat = chats.get(key);
    if (!chat) {
      const first: Messages<C> = {
        messages: [],
        hasOlder: false,
        isLoading: true,
        send: (content) => {
          const sent = "groupId" in of ? client.sendToGroup(of.groupId, content) : client.sendToUser(of.userId, content);
          // The list shows the failure.
          sent.catch(() => {});
        },
        retry: ({ id, content, error }) => {
          drop(made, id);
          // A refused one is not kept. Another message may wait under its id.
          if (error?.code !== "bad_request") client.store?.forget(id).catch(() => {});
          first.send(content as Sendable<C>);
        },
        loadOlder: async () => {
          if (made.view.hasOlder) await load(made, made.stored[0]?.id);
        },
        markRead: () => {
          const newest = made.stored.filter(({ senderId }) => senderId !== userId).pop()?.id ?? "";
          if (newest <= made.readUntil) return;
          made.readUntil = newest;
          // The next mark covers this one.
          client.api.markRead(of, newest).catch(() => (made.readUntil = ""));
        },
      };
      const made: Chat<C> = { of, first, view: first, stored: [], unsent: [], watchers: 0, readUntil: "" };
      chats.set(key, (chat = made));
    }
    return chat;
  };

  /** The conversation of a message: a private one is with the other user. */
  const chatOf = ({ senderId, groupId, receiverId }: { senderId: string; receiverId?: string; groupId?: string }) =>
    chatWith(groupId === undefined ? { userId: senderId === userId ? receiverId! : senderId } : { groupId });

  const showList = (conversations: readonly Conversation<C>[], isLoading: boolean) => {
    list = { conversations: [...conversations].sort((a, b) => (lastId(a) < lastId(b) ? 1 : -1)), isLoading };
    if (!isLoading) keep("list", list.conversations);
    changed();
  };

  /** Loads the list. While it is loaded, any number of calls loads it once more. */
  const loadList = async () => {
    isStale = true;
    if (isLoadingList) return;
    isLoadingList = true;
    while (isStale && isListed && isConnected()) {
      isStale = false;
      try {
        const all = new Map<string, Conversation<C>>();
        for (let after: string | undefined = ""; after !== undefined; ) {
          const page: ConversationsPage<C> = await client.api.conversations(after ? { after } : {});
          for (const one of page.conversations) all.set(keyOf(one), one);
          after = page.next;
        }
        for (const key of all.keys()) unlisted.delete(key);
        for (const one of list.conversations) if (unlisted.has(keyOf(one))) all.set(keyOf(one), one);
        showList([...all.values()], false);
      } catch {
        // The next connection asks again.
      }
    }
    isLoadingList = false;
  };

  /** Changes a conversation of the list. Returns whether it is there. */
  const patch = (of: ConversationAddress, change: (old: Conversation<C>) => object | undefined): boolean => {
    const { conversations, isLoading } = list;
    const old = conversations.find((one) => keyOf(one) === keyOf(of));
    if (old) showList(conversations.map((one) => (one === old ? { ...old, ...change(old) } : one)), isLoading);
    return !!old;
  };

  const types = (user: string, isTyping: boolean) => {
    clearTimeout(typing.get(user));
    if (isTyping) typing.set(user, setTimeout(() => types(user, false), TYPING_MS));
    else if (!typing.delete(user)) return;
    changed();
  };

  const arrived = (message: Message<C>) => {
    const { senderId, id } = message;
    const isOwn = senderId === userId;
    const chat = chatOf(message);
    types(senderId, false);
    add(chat, [message]);
    const isThere = patch(chat.of, ({ last, unread }) => ({
      last: last && last.id > id ? last : message,
      unread: isOwn ? unread : unread + 1,
      // Who answers has read what came before.
      ...(isOwn || message.type === "multicast" ? {} : { peerReadUntil: id }),
    }));
    if (isThere) return;
    // The server may never list a user, since the back end sends for anybody. Only the server knows a group's name.
    if ("userId" in chat.of && !list.isLoading) {
      const added = { type: "unicast", userId: chat.of.userId, unread: isOwn ? 0 : 1, last: message } as const;
      showList([...list.conversations, added], false);
    }
    const key = keyOf(chat.of);
    const now = Date.now();
    if (now - (unlisted.get(key) ?? -Infinity) < UNLISTED_MS) return;
    unlisted.set(key, now);
    void loadList();
  };

  const outgoing = ({ requestId: id, to, content, at, receipt, error }: Outgoing<C>) => {
    const chat = chatOf({ senderId: userId, ...to });
    drop(chat, id);
    if (receipt) {
      const type = "groupId" in to ? "multicast" : "unicast";
      return arrived({ type, senderId: userId, content, ...to, ...receipt } as Message<C>);
    }
    if (error?.code !== "sent_elsewhere") {
      const state = error ? "failed" : "sending";
      chat.unsent.push({ id, senderId: userId, content, timestamp: at, state, ...(error && { error }) });
    }
    show(chat);
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
      const ends = [
        client.on("message", arrived),
        client.on("outgoing", outgoing),
        client.on("recalled", (recalled) => {
          const chat = chatOf(recalled);
          const recall = <M extends { id: string }>(one: M): M => {
            return one.id === recalled.id ? { ...one, content: undefined, recalledAt: recalled.timestamp } : one;
          };
          chat.stored = chat.stored.map(recall);
          show(chat);
          patch(chat.of, ({ last }) => last && { last: recall(last) });
        }),
        client.on("read", ({ readerId, until, ...of }) => {
          patch(of, (old) => {
            if (readerId !== userId) return { peerReadUntil: until };
            return { readUntil: until, ...(until < lastId(old) ? {} : { unread: 0 }) };
          });
        }),
        client.on("typing", ({ senderId }) => types(senderId, true)),
        client.on("group", () => void loadList()),
        client.on("state", (state) => {
          if (state === "catching_up") {
            void loadList();
            chats.forEach((chat) => void load(chat));
          }
          changed();
        }),
      ];
      hasEnded = false;
      client.connect();
      return () => {
        hasEnded = true;
        for (const end of ends) end();
        void client.close();
      };
    },

    /** Loads a conversation, and again with each connection. Returns a function that ends that. */
    watch(chat: Chat<C>) {
      chat.watchers++;
      kept<ShownMessage<C>[]>(keyOf(chat.of), (messages) => {
        if (chat.view.isLoading) add(chat, messages, { hasOlder: messages.length === PAGE });
      });
      void load(chat);
      return () => void chat.watchers--;
    },

    /** Loads the list of conversations, and again with each connection. */
    watchList() {
      isListed = true;
      kept<Conversation<C>[]>("list", (conversations) => {
        if (list.isLoading) showList(conversations, true);
      });
      void loadList();
    },
  };
}
