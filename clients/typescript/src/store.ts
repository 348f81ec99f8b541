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

/** The key of the names of the values, the newest last. */
const NAMES = "names";

/** How many values are kept. Those of the React hooks are the list and the ends of conversations. */
const MAX_VALUES = 100;

/** Returns a store over values that are kept elsewhere, for example in React Native's storage. */
export function storeOver(values: Values): ChatStore {
  /** The names that this store has noted as the newest. Replaced when all is forgotten. */
  let known = new Set<string>();
  /** Rejects also where the application's function throws. */
  const update: Values["update"] = async (key, change) => values.update(key, change);
  const change = (how: (all: Kept[]) => Kept[]) => update<Kept[]>(UNSENT, (all = []) => how(all));

  /** Notes the newest name, if there is one, and forgets all values but so many of the newest. */
  const forgetBut = async (count: number, ...newest: string[]) => {
    const noted = known;
    let old: string[] = [];
    await update<string[]>(NAMES, (names = []) => {
      const all = [...names.filter((name) => !newest.includes(name)), ...newest];
      old = all.splice(0, all.length - count);
      return all;
    });
    for (const name of old) {
      noted.delete(name);
      // Nothing is written after a `clear`.
      if (noted === known) await update(name, () => undefined);
    }
  };

  return {
    get: (key) => values.get(key),
    async set(key, value) {
      const noted = known.has(key) || forgetBut(MAX_VALUES, key);
      known.add(key);
      await Promise.all([noted, update(key, () => value)]);
    },
    clear() {
      known = new Set();
      return values.clear();
    },
    async unsent() {
      const all = (await values.get<Kept[]>(UNSENT)) ?? [];
      return all.map(({ requestId, to, text, at }) => ({ requestId, to, content: JSON.parse(text) as Content, at }));
    },
    async keep({ content, ...unsent }) {
      const add = (all: Kept[]) => [
        ...all.filter(({ requestId }) => requestId !== unsent.requestId),
        { ...unsent, text: JSON.stringify(content) },
      ];
      try {
        await change(add);
      } catch {
        // There may be no room. What the user has written is worth more than what others have.
        await forgetBut(0);
        await change(add);
      }
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
