/** A signed-in user: their chats, and what the server and the user do to them. */

import { batch, computed, effect, signal, type Signal } from "@preact/signals";
import {
  ChatClient,
  type Conversation,
  type GroupFrame,
  type Invitation,
  type Message,
  type Notification,
  type ReadFrame,
  type RecalledFrame,
  type State,
} from "serverless-chat-client";
import { Chat } from "./chat.js";
import { contentOf, type Quote } from "./content.js";
import { isUnreachable, textOfError } from "./errors.js";
import * as host from "./host.js";
import { addressOf, conversationOf, idOf, isGroup, keyOf, ofGroup, withUser, type ChatKey } from "./key.js";
import { find, insert, oldest, type Log } from "./log.js";
import { notices } from "./notices.js";
import { Outbox, type Item } from "./outbox.js";
import { SNAPSHOT, Storage } from "./storage.js";
import { words } from "../words/words.js";

/** What the user has typed into a chat and not sent. */
export interface Draft {
  text: string;
  quote?: Quote | undefined;
}

/** What a reload shows before the server has answered. */
interface Snapshot {
  version: number;
  conversations: Conversation[];
  /** The open chat, and the end of its log. */
  open?: ChatKey | undefined;
  log: Log;
}

/** To be raised when the form of snapshots changes. Others are ignored. */
const SNAPSHOT_VERSION = 1;

/** Set for a moment, to tell the other tabs of the user. */
const SIGNED_OUT = "signed-out";

/** How often the server is told at most that a chat was read. */
const READ_EVERY_MS = 1_000;

/** The wait before lists are loaded again after a failure. */
const RETRY_MS = 3_000;

/** The number of messages of a page of history. */
const PAGE = 50;

/** The length of each of the two lists of a snapshot, in characters of JSON. The browser keeps about 5 million. */
const MAX_SNAPSHOT_LENGTH = 250_000;

/** The number of chats with users who are no friends that are shown. The newest are. */
const MAX_STRANGERS = 100;

/** The number of invitations from which a later one replaces another. The server lists no more. */
const MAX_INVITATIONS = 1_000;

/** The numbers of chunks of a log that are kept when a message comes: of the open chat, and of others. */
const OPEN_CHUNKS = 400;
const CLOSED_CHUNKS = 2;

/** The number of pages that are loaded to find a quoted message. */
const MAX_PAGES_TO_QUOTE = 40;

export class Session {
  readonly me: string;
  readonly storage: Storage;
  readonly state = signal<State>("idle");
  readonly bannedUntil = signal<number | undefined>(undefined);
  /** Whether the browser believes that there is a network. */
  readonly hasNetwork = signal(navigator.onLine);
  readonly relations = signal<host.Relations>({ friends: [], blocks: [] });
  readonly invitations = signal<readonly Invitation[]>([]);
  readonly open = signal<ChatKey | undefined>(undefined);
  /** Whether the lists have come from the server. */
  readonly isLoaded = signal(false);
  readonly outbox: Outbox;
  readonly #chats = signal<ReadonlyMap<ChatKey, Chat>>(new Map());
  readonly #drafts = new Map<ChatKey, Signal<Draft>>();
  readonly #listeners = new AbortController();
  #client: ChatClient;
  /** The list is being loaded; `again`: and must be loaded again. */
  #refreshing: "no" | "once" | "again" = "no";
  readonly #marks = new Map<ChatKey, string>();
  #marking = 0;
  /** Chats whose older messages are being loaded. */
  readonly #loading = new Map<ChatKey, Promise<void>>();
  readonly #told = new Set<ChatKey>();
  readonly #stop: () => void;

  /** `signedOut` is called when the user has signed out in another tab. */
  constructor(me: string, signedOut: () => void) {
    this.me = me;
    this.storage = new Storage(me);
    this.#client = this.#newClient();
    this.outbox = new Outbox({
      me,
      storage: this.storage,
      isConnected: () => this.isConnected.peek(),
      client: () => this.#client,
      lastOf: (key) => this.chat(key)?.last.peek()?.id,
      stored: (item, receipt) => this.#stored(item, receipt),
    });
    this.#restore();
    const options = { signal: this.#listeners.signal };
    const network = () => (this.hasNetwork.value = navigator.onLine);
    addEventListener("online", network, options);
    addEventListener("offline", network, options);
    addEventListener("pagehide", () => this.#save(), options);
    const stopPumping = effect(() => {
      if (this.isConnected.value) this.outbox.pump();
    });
    const stopWatching = this.storage.onChange(SIGNED_OUT, signedOut);
    this.#stop = () => {
      stopPumping();
      stopWatching();
    };
  }

  /** Whether messages can be sent now. */
  readonly isConnected = computed(
    () => this.hasNetwork.value && (this.state.value === "online" || this.state.value === "catching_up"),
  );

  /** The chats, the one in which something was said last first. */
  readonly chats = computed(() => {
    const waiting = new Set(this.outbox.items.value.map(({ key }) => key));
    const place = (chat: Chat) => (waiting.has(chat.key) ? "~" : "") + chat.activity.value;
    const all = [...this.#chats.value.values()].map((chat) => ({ chat, place: place(chat) }));
    const byName = (a: Chat, b: Chat) => (a.name.value < b.name.value ? -1 : 1);
    all.sort((a, b) => (a.place === b.place ? byName(a.chat, b.chat) : a.place < b.place ? 1 : -1));
    return all.map(({ chat }) => chat);
  });

  /** The number of unread messages of all chats. */
  readonly unread = computed(() => this.chats.value.reduce((sum, chat) => sum + chat.unread.value, 0));

  get api(): ChatClient["api"] {
    return this.#client.api;
  }

  chat(key: ChatKey): Chat | undefined {
    return this.#chats.peek().get(key);
  }

  /** The chat on the screen. */
  readonly openChat = computed(() => {
    const key = this.open.value;
    return key === undefined ? undefined : this.#chats.value.get(key);
  });

  isBlocked(user: string): boolean {
    return this.relations.value.blocks.includes(user);
  }

  // ------------------------------------------------------------------------------------------------- connecting
  connect(): void {
    if (this.state.peek() === "closed") this.#client = this.#newClient();
    this.#client.connect();
  }

  async goOffline(): Promise<void> {
    await this.#client.close();
  }

  /** Ends the session in this tab. */
  async end(): Promise<void> {
    this.#listeners.abort();
    this.#stop();
    this.outbox.close();
    clearTimeout(this.#marking);
    await this.#client.close();
  }

  /** Removes what the browser keeps for this user, and signs out their other tabs. */
  forget(): void {
    this.storage.clear();
    this.storage.set(SIGNED_OUT, true);
    this.storage.set(SIGNED_OUT, undefined);
  }

  #newClient(): ChatClient {
    const client = new ChatClient({
      url: location.origin,
      token: () => host.tokenOf(this.me),
      onMessage: (message) => this.#take(message),
      onRecalled: (frame) => this.#recalled(frame),
      onRead: (frame) => this.#read(frame),
      onTyping: ({ senderId }) => this.chat(withUser(senderId))?.typing(),
      onInvitation: ({ type: _, ...invitation }) => this.#invited(invitation),
      onGroup: (frame) => this.#grouped(frame),
      onNotification: (notification) => this.#notified(notification),
      onState: (state) => {
        if (client !== this.#client) return;
        this.bannedUntil.value = client.bannedUntil;
        this.state.value = state;
        if (state === "online") this.#connected();
      },
      onError: (error) => {
        if (error.code === "rate_limited") return notices.show(words().limited);
        // The state shows these.
        if (!isUnreachable(error) && !["too_many_connections", "banned"].includes(error.code)) {
          notices.fail(textOfError(error));
        }
      },
    });
    return client;
  }

  #connected(): void {
    this.outbox.adopt();
    this.outbox.pump();
    for (const chat of this.#chats.peek().values()) chat.isStale = true;
    this.refresh();
    const open = this.openChat.peek();
    if (open !== undefined) void this.load(open);
  }

  // -------------------------------------------------------------------------------------------------- what comes
  #take(message: Message): void {
    const key = keyOf(this.me, message);
    const chat = this.chat(key) ?? this.#newChat(key);
    chat.add(message, key === this.open.peek() ? OPEN_CHUNKS : CLOSED_CHUNKS);
  }

  #recalled(frame: RecalledFrame): void {
    this.chat(keyOf(this.me, frame))?.recall(frame);
  }

  #read({ readerId, userId, groupId, until }: ReadFrame): void {
    if (readerId === this.me) this.chat(groupId === undefined ? withUser(userId) : ofGroup(groupId))?.read(until);
    else if (groupId === undefined) this.chat(withUser(readerId))?.peerReads(until);
  }

  #invited(invitation: Invitation): void {
    const others = this.invitations.peek().filter(({ id }) => id !== invitation.id);
    this.invitations.value = [...others, invitation].slice(-MAX_INVITATIONS);
  }

  #grouped(frame: GroupFrame): void {
    const key = ofGroup(frame.groupId);
    const chat = this.chat(key);
    if (frame.event === "joined" && frame.userId === this.me) return this.refresh();
    if (chat === undefined) return;
    const { groupId: _, ...group } = { groupId: "", ...chat.group.peek() };
    const change = (part: object) => {
      if (chat.group.peek() !== undefined) chat.group.value = { ...chat.group.peek()!, ...part };
    };
    const name = chat.name.peek();
    switch (frame.event) {
      case "joined":
        return change({ usersId: [...new Set([...(group.usersId ?? []), frame.userId])] });
      case "left":
      case "removed":
        if (frame.userId !== this.me) {
          return change({ usersId: (group.usersId ?? []).filter((user) => user !== frame.userId) });
        }
        if (frame.event === "removed") notices.show(words().youWereRemoved(name));
        return this.#remove(key);
      case "manager":
        if (frame.userId === this.me) notices.show(words().youAreManager(name));
        return change({ managerId: frame.userId });
      case "renamed":
        chat.name.value = frame.name;
        return change({ name: frame.name });
      case "dissolved":
        notices.show(words().wasDissolved(name));
        return this.#remove(key);
    }
  }

  #notified({ notificationType, content }: Notification): void {
    if (notificationType === host.FRIENDS) return this.refresh();
    const text = typeof content === "string" ? content : JSON.stringify(content);
    notices.show(words().notification(notificationType, text));
  }

  // ------------------------------------------------------------------------------------------------------- lists
  /** Loads the lists of chats, invitations and friends. If the server does not answer, the state shows it. */
  refresh(): void {
    if (this.#refreshing !== "no") {
      this.#refreshing = "again";
      return;
    }
    this.#refreshing = "once";
    void this.#load().then((isDone) => {
      const again = this.#refreshing === "again";
      this.#refreshing = "no";
      if (again) this.refresh();
      else if (!isDone) setTimeout(() => this.state.peek() === "online" && this.refresh(), RETRY_MS);
    });
  }

  async #load(): Promise<boolean> {
    try {
      const [relations, conversations, invitations] = await Promise.all([
        host.relationsOf(this.me),
        this.#conversations(),
        this.api.invitations(),
      ]);
      batch(() => {
        // Everybody in the list of conversations is a friend.
        const friends = conversations.flatMap((one) => (one.type === "unicast" ? [one.userId] : []));
        this.relations.value = relations ?? { friends, blocks: [] };
        this.invitations.value = invitations;
        this.#listed(conversations);
        this.isLoaded.value = true;
      });
      return true;
    } catch {
      return false;
    }
  }

  async #conversations(): Promise<Conversation[]> {
    const all: Conversation[] = [];
    let after: string | undefined;
    do {
      const page = await this.api.conversations({ after });
      all.push(...page.conversations);
      after = page.next;
    } while (after !== undefined);
    return all;
  }

  #listed(conversations: readonly Conversation[]): void {
    const chats = new Map<ChatKey, Chat>();
    const put = (key: ChatKey) => {
      const chat = this.chat(key) ?? new Chat(key, this.me);
      chats.set(key, chat);
      return chat;
    };
    for (const conversation of conversations) {
      const key = conversation.type === "multicast" ? ofGroup(conversation.groupId) : withUser(conversation.userId);
      const chat = put(key);
      // A mark may have failed, or a reload was faster.
      if (chat.listed(conversation)) this.#markLater(key, chat.readUntil.peek());
    }
    for (const user of this.relations.peek().blocks) put(withUser(user));
    // These are in no list: who is no friend, such as a bot, and has written; and the open chat with a former friend.
    for (const [key, chat] of this.#chats.peek()) {
      if (!isGroup(key) && !chats.has(key) && (chat.isStranger || key === this.open.peek())) chats.set(key, chat);
    }
    for (const { key } of this.outbox.items.peek()) if (!isGroup(key)) put(key);
    this.#chats.value = chats;
    const open = this.open.peek();
    if (open !== undefined && !chats.has(open)) this.open.value = undefined;
  }

  #newChat(key: ChatKey): Chat {
    const chat = new Chat(key, this.me);
    chat.isStranger = !isGroup(key);
    const chats = new Map(this.#chats.peek());
    const strangers = this.chats.peek().filter((one) => one.isStranger && one.key !== this.open.peek());
    // In a moment the list tells which of them are friends.
    for (const oldest of strangers.slice(MAX_STRANGERS - 1)) chats.delete(oldest.key);
    this.#chats.value = chats.set(key, chat);
    // The list tells the name of a group, and since when the chat is read.
    this.refresh();
    return chat;
  }

  #remove(key: ChatKey): void {
    const chats = new Map(this.#chats.peek());
    chats.delete(key);
    batch(() => {
      if (this.open.peek() === key) this.open.value = undefined;
      this.#chats.value = chats;
    });
    this.#drafts.delete(key);
    this.storage.set(`draft/${key}`, undefined);
  }

  // ----------------------------------------------------------------------------------------------------- history
  /** Shows a chat, or none. */
  show(key: ChatKey | undefined): void {
    if (key !== undefined && this.chat(key) === undefined) return;
    this.open.value = key;
    this.storage.set("open", key);
    const chat = this.openChat.peek();
    if (chat !== undefined && chat.isStale) void this.load(chat);
  }

  /** Loads the newest messages of a chat. */
  async load(chat: Chat): Promise<void> {
    const limit = Math.min(100, Math.max(PAGE, chat.unread.peek() + 10));
    await this.#once(chat.key, async () => chat.addNewest(await this.api.history(conversationOf(chat.key), { limit })));
  }

  /** Loads the messages before those of the log. */
  async loadOlder(chat: Chat): Promise<void> {
    if (chat.hasOlder.peek() === false || chat.isStale) return;
    const start = oldest(chat.log.peek())?.id;
    const before = chat.olderFrom ?? start;
    if (before === undefined) return;
    await this.#once(chat.key, async () => {
      chat.addOlder(await this.api.history(conversationOf(chat.key), { before, limit: 100 }), start);
    });
  }

  /** Loads older messages until one is there. Returns false if it is not to be found. */
  async loadUntil(chat: Chat, id: string): Promise<boolean> {
    for (let page = 0; page < MAX_PAGES_TO_QUOTE; page++) {
      if (find(chat.log.peek(), id) !== undefined) return true;
      const start = oldest(chat.log.peek())?.id;
      if (start === undefined || start <= id || chat.hasOlder.peek() !== true) return false;
      await this.loadOlder(chat);
    }
    return false;
  }

  /** Runs one load of a chat at a time. Without an answer the log stays as it is: the state shows why. */
  #once(key: ChatKey, work: () => Promise<void>): Promise<void> {
    const running = this.#loading.get(key);
    if (running !== undefined) return running;
    const load = work()
      .catch((error: unknown) => {
        if (!isUnreachable(error)) notices.fail(textOfError(error));
      })
      .finally(() => this.#loading.delete(key));
    this.#loading.set(key, load);
    return load;
  }

  /** The user has seen a message on the screen, and so all before it. */
  seen(chat: Chat, until: string): void {
    if (chat.unread.peek() === 0 || !chat.read(until)) return;
    this.#markLater(chat.key, until);
  }

  #markLater(key: ChatKey, until: string): void {
    this.#marks.set(key, until);
    if (this.#marking === 0) this.#marking = window.setTimeout(() => this.#mark(), READ_EVERY_MS);
  }

  #mark(): void {
    this.#marking = 0;
    for (const [key, until] of this.#marks) {
      // A mark that fails is made up for by the next one.
      this.api.markRead(conversationOf(key), until).catch(() => undefined);
    }
    this.#marks.clear();
  }

  // ----------------------------------------------------------------------------------------------------- sending
  /** The draft of a chat. It survives a reload. */
  draft(key: ChatKey): Signal<Draft> {
    const there = this.#drafts.get(key);
    if (there !== undefined) return there;
    const draft = signal<Draft>(this.storage.get(`draft/${key}`) ?? { text: "" });
    this.#drafts.set(key, draft);
    return draft;
  }

  write(key: ChatKey, draft: Draft): void {
    this.draft(key).value = draft;
    const isEmpty = draft.text === "" && draft.quote === undefined;
    this.storage.set(`draft/${key}`, isEmpty ? undefined : draft);
  }

  typing(key: ChatKey): void {
    if (!isGroup(key)) this.#client.typing(idOf(key));
  }

  /** Sends the draft of a chat. */
  send(key: ChatKey): void {
    const { text, quote } = this.draft(key).peek();
    if (text.trim() === "") return;
    this.write(key, { text: "" });
    this.outbox.add(key, contentOf(text.trim(), quote));
    this.#tellDeveloper(key);
  }

  /** The server answers as if a message to a user who is no friend had arrived. This tells the developer, once. */
  #tellDeveloper(key: ChatKey): void {
    const other = idOf(key);
    if (isGroup(key) || this.relations.peek().friends.includes(other) || this.#told.has(key)) return;
    this.#told.add(key);
    // If this fails, the console still tells.
    host.tellDeveloper(this.me, other).catch(() => undefined);
    console.warn(
      `${this.me} and ${other} are not friends, so ${other} does not get messages from ${this.me}. ` +
        `Make them friends: PUT /relationship/${this.me}/friends/${other} at the internal address.`,
    );
  }

  #stored(item: Item, { id, timestamp }: { id: string; timestamp: number }): void {
    const to = addressOf(item.key);
    const own = { id, timestamp, senderId: this.me, content: item.content };
    this.#take("groupId" in to ? { type: "multicast", ...to, ...own } : { type: "unicast", ...to, ...own });
  }

  async recall(key: ChatKey, id: string, senderId: string): Promise<void> {
    const to = addressOf(key);
    await this.api.recall(id, to);
    this.chat(key)?.recall({ type: "RECALLED", id, senderId, timestamp: Date.now(), ...to });
  }

  // ---------------------------------------------------------------------------------------------- friends, groups
  async befriend(user: string, on = true): Promise<void> {
    await host.befriend(this.me, user, on);
    if (on) await this.#loadAndShow(withUser(user));
    else await this.#load();
  }

  async block(user: string, on = true): Promise<void> {
    await host.block(this.me, user, on);
    await this.#load();
  }

  async createGroup(name: string): Promise<void> {
    await this.#loadAndShow(ofGroup(await this.api.createGroup(name)));
  }

  async answer(invitation: Invitation, accept: boolean): Promise<void> {
    const { id, groupId } = invitation;
    try {
      await (accept ? this.api.acceptInvitation(id) : this.api.declineInvitation(id));
    } finally {
      // An invitation that is refused is gone too.
      this.invitations.value = this.invitations.peek().filter((other) => other.id !== id);
    }
    if (accept) await this.#loadAndShow(ofGroup(groupId));
  }

  async loadGroup(chat: Chat): Promise<void> {
    chat.group.value = await this.api.group(idOf(chat.key));
  }

  async leave(key: ChatKey): Promise<void> {
    await this.api.leaveGroup(idOf(key));
    this.#remove(key);
  }

  async #loadAndShow(key: ChatKey): Promise<void> {
    await this.#load();
    this.show(key);
  }

  // ---------------------------------------------------------------------------------------------------- snapshot
  #restore(): void {
    const snapshot = this.storage.get<Snapshot>(SNAPSHOT);
    if (snapshot?.version !== SNAPSHOT_VERSION) return;
    this.#listed(snapshot.conversations);
    const chat = snapshot.open === undefined ? undefined : this.chat(snapshot.open);
    if (chat !== undefined) chat.log.value = snapshot.log;
  }

  #save(): void {
    const chats = this.chats.peek().filter((chat) => !chat.isStranger);
    const conversations = chats.map((chat): Conversation => {
      const last = chat.last.peek();
      const state = { unread: chat.unread.peek(), readUntil: chat.readUntil.peek(), ...(last && { last }) };
      const id = idOf(chat.key);
      if (isGroup(chat.key)) return { type: "multicast", groupId: id, name: chat.name.peek(), ...state };
      return { type: "unicast", userId: id, peerReadUntil: chat.peerReadUntil.peek(), ...state };
    });
    const open = this.openChat.peek();
    const log = beginning(open?.log.peek().slice(-2).flat().reverse() ?? []).reverse();
    const snapshot: Snapshot = {
      version: SNAPSHOT_VERSION, conversations: beginning(conversations), open: open?.key, log: insert([], log),
    };
    this.storage.set(SNAPSHOT, snapshot);
  }
}

/** The beginning of a list that a snapshot has room for. */
function beginning<T>(list: readonly T[]): T[] {
  let room = MAX_SNAPSHOT_LENGTH;
  const end = list.findIndex((one) => (room -= JSON.stringify(one).length) < 0);
  return end < 0 ? [...list] : list.slice(0, end);
}
