/** A client of the serverless chat module. Start with `ChatClient`. */

export type { ChatApi, ConversationsPage, HistoryOptions, HistoryPage, Page, PullOptions } from "./api.js";
export {
  ChatClient,
  type ChatEvents,
  type ClientOptions,
  type Listener,
  type Outgoing,
  type SendOptions,
  type State,
} from "./client.js";
export type { Backoff, Clock, Timer } from "./clock.js";
export type { WebSocketConstructor, WebSocketLike } from "./connection.js";
export { ChatError, type ErrorCode } from "./errors.js";
export type { ChatStore, Unsent } from "./kept.js";
export type { Receipt } from "./outbox.js";
export type {
  AnyContent,
  Content,
  Conversation,
  ConversationAddress,
  Group,
  GroupConversation,
  GroupFrame,
  GroupMessage,
  HistoryMessage,
  Invitation,
  InvitationFrame,
  Json,
  Message,
  Notification,
  PrivateConversation,
  PrivateMessage,
  ReadFrame,
  RecalledFrame,
  RecalledGroupMessage,
  RecalledPrivateMessage,
  Sendable,
  TypingFrame,
  Version,
} from "./protocol.js";
export type { Address } from "./submission.js";
export type { Timing } from "./timing.js";
