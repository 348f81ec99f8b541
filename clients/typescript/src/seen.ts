/** Which messages the application has been given: a bounded memory of ids. */
export class Seen {
  /** The greatest id that was forgotten; empty while none was. */
  forgotten = "";
  readonly #ids = new Set<string>();
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Remember an id; false if it is known. The one that was remembered longest ago gives way. */
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
