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
import { createModel, NO_CONVERSATIONS, type Conversations, type Messages, type Model } from "./model.js";
import type { AnyContent, Content, ConversationAddress } from "./protocol.js";

export type { Conversations, ListedConversation, Messages, ShownMessage } from "./model.js";

const Context = createContext<Model<any> | undefined>(undefined);

export interface ChatProviderProps {
  /** The client of the user. Make it once, for example by `useMemo`, and without `connect`. */
  client: ChatClient<any>;
  /** The id of the user, as in their token. */
  userId: string;
  children?: ReactNode;
}

/** Connects a client while it is mounted, and gives it to the hooks below. */
export function ChatProvider({ client, userId, children }: ChatProviderProps): ReactElement {
  const model = useMemo(() => createModel(client, userId), [client, userId]);
  useEffect(model.start, [model]);
  return createElement(Context.Provider, { value: model }, children);
}

function useModel(): Model<any> {
  const model = useContext(Context);
  if (!model) throw new Error("no ChatProvider");
  return model;
}

/** Returns the client and its state. */
export function useChat<C extends AnyContent = Content>(): { client: ChatClient<C>; state: State } {
  const { client, subscribe } = useModel();
  return { client, state: useSyncExternalStore(subscribe, () => client.state, () => "idle") };
}

/** Returns the conversations, the one with the newest message first. */
export function useConversations<C extends AnyContent = Content>(): Conversations<C> {
  const model = useModel();
  useEffect(model.watchList, [model]);
  return useSyncExternalStore(model.subscribe, model.list, () => NO_CONVERSATIONS);
}

/** Returns the messages of a conversation: `{ userId }` or `{ groupId }`. Other objects with the same id are the same. */
export function useMessages<C extends AnyContent = Content>(of: ConversationAddress): Messages<C> {
  const model = useModel();
  const chat = model.chatWith(of);
  useEffect(chat.watch, [chat]);
  return useSyncExternalStore(model.subscribe, () => chat.view, () => chat.first);
}

/** Returns whether a friend is typing, and a function to call for each key that the user types to them. */
export function useTyping(userId: string): [isTyping: boolean, type: () => void] {
  const model = useModel();
  const isTyping = useSyncExternalStore(model.subscribe, () => model.isTyping(userId), () => false);
  return [isTyping, () => model.client.typing(userId)];
}
