/** A client of the serverless chat module. Start with `ChatClient`. */

export { ChatApi, type Page, type PullOptions } from "./api.js";
export { ChatClient, type ClientOptions, type SendOptions, type State } from "./client.js";
export type { Backoff, Clock, Timer } from "./clock.js";
export type { WebSocketConstructor } from "./connection.js";
export { ChatError, type ErrorCode } from "./errors.js";
export type { Receipt } from "./outbox.js";
export type {
  Content,
  Group,
  GroupMessage,
  Invitation,
  Json,
  Message,
  Notification,
  PrivateMessage,
} from "./protocol.js";
export type { Timing } from "./timing.js";
