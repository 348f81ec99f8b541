/** Makes a bounded memory of the ids of delivered messages. */
export function createSeen(capacity: number) {
  const ids = new Set<string>();
  let forgotten = "";
  return {
    /** The greatest forgotten id. Empty if none was forgotten. */
    get forgotten(): string {
      return forgotten;
    },

    /** Whether an id is known. */
    has: (id: string) => ids.has(id),

    /** Forgets an id, as if it never came. */
    delete: (id: string) => ids.delete(id),

    /** Remembers an id. Returns false if it is known. The oldest id is forgotten if there is no more room. */
    add(id: string): boolean {
      if (ids.has(id)) return false;
      const [oldest = ""] = ids.add(id);
      if (ids.size > capacity) {
        ids.delete(oldest);
        if (oldest > forgotten) forgotten = oldest;
      }
      return true;
    },
  };
}
