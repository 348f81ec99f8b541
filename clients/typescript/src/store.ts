/** Stores of what survives a reload. The entry `serverless-chat-client/store`. */

import { clear, createStore, get, update, type UseStore } from "idb-keyval";
import type { ChatStore, Unsent } from "./kept.js";
import type { Content } from "./protocol.js";

export type { ChatStore, Unsent } from "./kept.js";

/** Keeps values by their names. They are what IndexedDB can store: JSON, for example. */
export interface Values {
  /** Returns a value, or undefined. */
  get<T>(key: string): Promise<T | undefined>;
  /** Replaces a value in one step, so that two tabs do not undo each other's changes. */
  update<T>(key: string, change: (old: T | undefined) => T): Promise<void>;
  /** Forgets all. */
  clear(): Promise<void>;
}

/** An unsent message as it is kept. Its content is text, so that each repeat has the same bytes. */
interface Kept extends Omit<Unsent, "content"> {
  text: string;
  /** When the first attempt was made. */
  triedAt?: number;
}

/** The key of the unsent messages, in the order in which they were sent. */
const UNSENT = "unsent";

/** Returns a store over values that are kept elsewhere, for example in React Native's storage. */
export function storeOver(values: Values): ChatStore {
  const change = (how: (all: Kept[]) => Kept[]) => values.update<Kept[]>(UNSENT, (all = []) => how(all));
  return {
    get: (key) => values.get(key),
    set: (key, value) => values.update(key, () => value),
    clear: () => values.clear(),
    async unsent() {
      const all = (await values.get<Kept[]>(UNSENT)) ?? [];
      return all.map(({ requestId, to, text, at }) => ({ requestId, to, content: JSON.parse(text) as Content, at }));
    },
    keep({ content, ...unsent }) {
      return change((all) => [
        ...all.filter(({ requestId }) => requestId !== unsent.requestId),
        { ...unsent, text: JSON.stringify(content) },
      ]);
    },
    async tried(requestId, now) {
      let triedAt: number | undefined;
      await change((all) =>
        all.map((kept) => {
          if (kept.requestId !== requestId) return kept;
          triedAt = kept.triedAt ?? now;
          return { ...kept, triedAt };
        }),
      );
      return triedAt;
    },
    forget(requestId) {
      return change((all) => all.filter((kept) => kept.requestId !== requestId));
    },
  };
}

/**
 * Returns the store of a user, in a database of their own in IndexedDB. Contents are in it as they were sent, so call
 * `clear` when the user signs out. Where there is no IndexedDB, its calls reject, and the client continues without it.
 */
export function indexedDbStore(userId: string): ChatStore {
  let opened: UseStore | undefined;
  // Opened when it is first used, because servers have no IndexedDB.
  const store = () => (opened ??= createStore(`serverless-chat ${userId}`, "values"));
  return storeOver({
    get: async (key) => get(key, store()),
    update: async (key, change) => update(key, change, store()),
    clear: async () => clear(store()),
  });
}
