/** Hooks for React 18 and later: the entry `serverless-chat-client/react`. */

import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useMemo,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from "react";
import type { ChatClient, State } from "./client.js";
import { Model, NO_CONVERSATIONS, NO_MESSAGES, type Conversations, type Messages, type ShownMessage } from "./model.js";
import type { AnyContent, Content, ConversationAddress, Sendable } from "./protocol.js";

export type { Conversations, Messages, ShownMessage } from "./model.js";

interface Chat {
  client: ChatClient<any>;
  userId: string;
  model: Model<any>;
}

const Context = createContext<Chat | undefined>(undefined);

export interface ChatProviderProps {
  /** The client of the user. Make it once, for example by `useMemo`, and without `connect`. */
  client: ChatClient<any>;
  /** The id of the user, as in their token. */
  userId: string;
  children?: ReactNode;
}

/** Connects a client while it is mounted, and gives it to the hooks below. */
export function ChatProvider({ client, userId, children }: ChatProviderProps): ReactElement {
  const value = useMemo(() => ({ client, userId, model: new Model(client, userId) }), [client, userId]);
  useEffect(() => value.model.start(), [value]);
  return createElement(Context.Provider, { value }, children);
}

function useContextOfChat(): Chat {
  const chat = useContext(Context);
  if (!chat) throw new Error("this hook needs a ChatProvider above it");
  return chat;
}

/** Returns the client, its user and its state. */
export function useChat<C extends AnyContent = Content>(): { client: ChatClient<C>; userId: string; state: State } {
  const { client, userId, model } = useContextOfChat();
  const state = useSyncExternalStore(model.subscribe, () => client.state, () => "idle" as const);
  return { client, userId, state };
}

/** Returns the conversations, the one with the newest message first. */
export function useConversations<C extends AnyContent = Content>(): Conversations<C> {
  const { model } = useContextOfChat();
  useEffect(() => model.watchList(), [model]);
  return useSyncExternalStore(model.subscribe, () => model.list, () => NO_CONVERSATIONS);
}

/** The messages of a conversation, and what can be done with them. */
export interface Talk<C extends AnyContent = Content> extends Messages<C> {
  /** Sends. The message is in `messages` at once. If it fails, its `state` says so. */
  send(content: Sendable<C>): void;
  /** Sends the content of a message that failed again, as a new message. */
  retry(message: ShownMessage<C>): void;
  /** Reads the next older messages. */
  loadOlder(): Promise<void>;
  /** Marks the messages as read. Call it when the user sees them. */
  markRead(): void;
}

/** Returns the messages of a conversation: `{ userId }` or `{ groupId }`. */
export function useMessages<C extends AnyContent = Content>(of: ConversationAddress): Talk<C> {
  const { client, model } = useContextOfChat();
  const [isGroup, id] = "groupId" in of ? [true, of.groupId] : [false, of.userId];
  // The address may be another object each time.
  const address = useMemo(() => (isGroup ? { groupId: id } : { userId: id }), [isGroup, id]);
  useEffect(() => model.watch(address), [model, address]);
  const view = useSyncExternalStore<Messages<C>>(model.subscribe, () => model.chat(address).view, () => NO_MESSAGES);
  return useMemo(() => {
    const send = (content: Sendable<C>) => {
      // The list shows the failure.
      (isGroup ? client.sendToGroup(id, content) : client.sendToUser(id, content)).catch(() => {});
    };
    return {
      ...view,
      send,
      retry: (message) => {
        model.discard(address, message.id);
        send(message.content as Sendable<C>);
      },
      loadOlder: () => model.loadOlder(address),
      markRead: () => model.markRead(address),
    };
  }, [view, client, model, address, isGroup, id]);
}

/** Returns whether a friend is typing, and a function to call for each key that the user types to them. */
export function useTyping(userId: string): [isTyping: boolean, type: () => void] {
  const { client, model } = useContextOfChat();
  const isTyping = useSyncExternalStore(model.subscribe, () => model.isTyping(userId), () => false);
  return [isTyping, useMemo(() => () => client.typing(userId), [client, userId])];
}
