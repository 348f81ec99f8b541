/** Stores of what survives a reload. The entry `serverless-chat-client/store`. */

import { clear, createStore, del, get, keys, update, type UseStore } from "idb-keyval";
import type { ChatStore, Unsent } from "./kept.js";
import type { Content } from "./protocol.js";

export type { ChatStore, Unsent } from "./kept.js";

/**
 * Keeps values by their names, for one user. They are what IndexedDB can store: JSON, for example. If the storage has
 * other values too, such as the application's, add a prefix to each name: values that no store has set are removed.
 */
export interface Values {
  /** Returns a value, or undefined. */
  get<T>(key: string): Promise<T | undefined>;
  /** Replaces a value in one step, so that two tabs do not undo each other's changes. */
  update<T>(key: string, change: (old: T | undefined) => T): Promise<void>;
  /** Returns the names of these values, and of no others. */
  keys(): Promise<string[]>;
  /** Removes a value. Later, `get` returns undefined, and `keys` does not have its name. */
  remove(key: string): Promise<void>;
  /** Removes these values, and no others. */
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
  /** The names that this store has noted. Replaced when all is removed. */
  let noted = new Set<string>();
  /** The `requestId`s of the messages that `keep` is writing. */
  const keeping = new Set<string>();
  /** Rejects also where the application's function throws. */
  const update: Values["update"] = async (key, change) => values.update(key, change);
  const change = (how: (all: Kept[]) => Kept[]) => update<Kept[]>(UNSENT, (all = []) => how(all));

  /** Removes the values without a name. The names are read last, since each is noted before its value is there. */
  const removeUnnamed = async () => {
    const all = await values.keys();
    const names = [NAMES, UNSENT, ...((await values.get<string[]>(NAMES)) ?? [])];
    for (const name of all) if (!names.includes(name)) await values.remove(name);
  };

  /** Notes a name as the newest, and removes the values that are too many. */
  const note = async (name: string) => {
    const all = noted;
    await update<string[]>(NAMES, (names = []) => [...names.filter((one) => one !== name), name].slice(-MAX_VALUES));
    all.add(name);
    await removeUnnamed();
  };

  return {
    get: (key) => values.get(key),
    async set(key, value) {
      const all = noted;
      const isNoted = all.has(key);
      let isThere = true;
      await Promise.all([
        isNoted || note(key),
        update(key, (old) => {
          isThere = old !== undefined;
          return value;
        }),
      ]);
      // Another tab has removed the value with its name. Nothing is written after a `clear`.
      if (isNoted && !isThere && all === noted) await note(key);
    },
    clear() {
      noted = new Set();
      keeping.clear();
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
      keeping.add(unsent.requestId);
      try {
        await change(add);
      } catch (error) {
        // There may be no room. What the user has written is worth more than what others have.
        await values.remove(NAMES);
        await removeUnnamed();
        // Meanwhile it may have got a result, or the user may have signed out.
        if (!keeping.has(unsent.requestId)) throw error;
        await change(add);
      } finally {
        keeping.delete(unsent.requestId);
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
      keeping.delete(requestId);
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
    keys: async () => keys(store()),
    remove: async (key) => del(key, store()),
    clear: async () => clear(store()),
  });
}
