/** What survives a reload, as the client sees it. The entry `serverless-chat-client/store` implements it. */

import type { Content } from "./protocol.js";
import type { Address } from "./submission.js";

/** A message without a result. */
export interface Unsent {
  requestId: string;
  to: Address;
  content: Content;
  /** When the application sent it, in milliseconds since the Unix epoch. */
  at: number;
}

/** Keeps values of one user by their names, and unsent messages. The tabs of a browser share it. */
export interface ChatStore {
  /** Returns a value, or undefined. */
  get<T>(key: string): Promise<T | undefined>;
  /** Replaces a value. */
  set(key: string, value: unknown): Promise<void>;
  /** Returns the unsent messages, the oldest first. */
  unsent(): Promise<Unsent[]>;
  /** Keeps a message until it is forgotten, in place of one with the same `requestId`. */
  keep(unsent: Unsent): Promise<void>;
  /**
   * Notes the first attempt before it is made, since the server recognises a repeat only for ten minutes. Returns when
   * it was: an earlier time if another tab has tried before. Undefined if the message is not kept any more: another tab
   * has its result.
   */
  tried(requestId: string, now: number): Promise<number | undefined>;
  /** Forgets a message that has a result. */
  forget(requestId: string): Promise<void>;
  /** Forgets everything. Call it when the user signs out. */
  clear(): Promise<void>;
}
