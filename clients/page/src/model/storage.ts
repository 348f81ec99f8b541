/**
 * What the browser keeps for a user. All tabs of the user share it, so that a draft survives the end of its tab. If the
 * storage is full or forbidden, the page works, and a reload forgets more.
 */

/** What others fill. It makes room for what the user has written. */
export const SNAPSHOT = "snapshot";

/** The part of the browser's storage that belongs to one user. */
export class Storage {
  readonly #prefix: string;

  constructor(user: string) {
    this.#prefix = `chat/${user}/`;
  }

  get<T>(name: string): T | undefined {
    try {
      return JSON.parse(localStorage.getItem(this.#prefix + name) ?? "null") ?? undefined;
    } catch {
      return undefined;
    }
  }

  /** Stores a value, or removes it if it is undefined. Returns whether that succeeded. */
  set(name: string, value: unknown): boolean {
    try {
      if (value === undefined) localStorage.removeItem(this.#prefix + name);
      else localStorage.setItem(this.#prefix + name, JSON.stringify(value));
      return true;
    } catch {
      // Full or forbidden.
      if (name === SNAPSHOT || this.get(SNAPSHOT) === undefined) return false;
      return this.set(SNAPSHOT, undefined) && this.set(name, value);
    }
  }

  /** The names that begin so. */
  names(beginning: string): string[] {
    try {
      const start = this.#prefix + beginning;
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(start));
      return keys.map((key) => key.slice(this.#prefix.length));
    } catch {
      return [];
    }
  }

  /** Removes everything of the user. */
  clear(): void {
    for (const name of this.names("")) this.set(name, undefined);
  }

  /** Calls when another tab has changed a value whose name begins so. Returns the function that ends it. */
  onChange(beginning: string, call: (name: string) => void): () => void {
    const listener = ({ key }: StorageEvent) => {
      if (key?.startsWith(this.#prefix + beginning)) call(key.slice(this.#prefix.length));
    };
    addEventListener("storage", listener);
    return () => removeEventListener("storage", listener);
  }
}
