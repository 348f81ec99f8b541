/** What survives a reload: the store as the client sees it, and the unsent messages in it. */

import type { Content } from "./protocol.js";
import type { Address } from "./submission.js";

/**
 * Keeps values of one user by their names. The tabs of a browser share it. Values are what IndexedDB can store: JSON,
 * for example.
 */
export interface ChatStore {
  /** Returns a value, or undefined. */
  get<T>(key: string): Promise<T | undefined>;
  /** Replaces a value in one step, so that two tabs do not undo each other's changes. */
  update<T>(key: string, change: (old: T | undefined) => T): Promise<void>;
  /** Forgets everything. Call it when the user signs out. */
  clear(): Promise<void>;
}

/** A message without a result. */
export interface Unsent {
  requestId: string;
  to: Address;
  content: Content;
  /** When the application sent it. */
  at: number;
}

/** The same in the store. Its content is text, so that each repeat has the same bytes. */
interface Kept extends Omit<Unsent, "content"> {
  text: string;
  /** When the first attempt was made. The server recognises a repeat only for ten minutes after it. */
  triedAt?: number;
}

/** The key of the unsent messages, in the order in which they were sent. */
const UNSENT = "unsent";

/** Returns the unsent messages, the oldest first. */
export async function unsentOf(store: ChatStore): Promise<Unsent[]> {
  const kept = (await store.get<Kept[]>(UNSENT)) ?? [];
  return kept.map(({ requestId, to, text, at }) => ({ requestId, to, content: JSON.parse(text) as Content, at }));
}

/** Keeps a message until it is forgotten. */
export function keep(store: ChatStore, { requestId, to, content, at }: Unsent): Promise<void> {
  const kept: Kept = { requestId, to, text: JSON.stringify(content), at };
  return store.update<Kept[]>(UNSENT, (all = []) => [...all, kept]);
}

/**
 * Notes the first attempt before it is made. Returns when it was: an earlier time if another tab has tried before.
 * Undefined if the message is not kept any more: another tab has its result.
 */
export async function markTried(store: ChatStore, requestId: string, now: number): Promise<number | undefined> {
  let triedAt: number | undefined;
  await store.update<Kept[]>(UNSENT, (all = []) =>
    all.map((kept) => {
      if (kept.requestId !== requestId) return kept;
      triedAt = kept.triedAt ?? now;
      return { ...kept, triedAt };
    }),
  );
  return triedAt;
}

/** Forgets a message that has a result. */
export function forget(store: ChatStore, requestId: string): Promise<void> {
  return store.update<Kept[]>(UNSENT, (all = []) => all.filter((kept) => kept.requestId !== requestId));
}
