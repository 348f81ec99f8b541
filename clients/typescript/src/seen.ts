/** A bounded memory of the ids of delivered messages. */
export class Seen {
  /** The greatest forgotten id. Empty if none was forgotten. */
  forgotten = "";
  readonly #ids = new Set<string>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Whether an id is known. */
  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Forgets an id, as if it never came. */
  delete(id: string): void {
    this.#ids.delete(id);
  }

  /** Remembers an id. Returns false if it is known. The oldest id is forgotten if there is no more room. */
  add(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.#capacity) {
      const [oldest] = this.#ids;
      if (oldest !== undefined) {
        this.#ids.delete(oldest);
        if (oldest > this.forgotten) this.forgotten = oldest;
      }
    }
    return true;
  }
}
