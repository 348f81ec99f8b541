/** Short messages of the page: what was done, and what failed. */

import { signal } from "@preact/signals";
import { textOfError } from "./errors.js";

export interface Notice {
  id: number;
  text: string;
  isError: boolean;
}

/** How long a notice is shown. An error stays until the user closes it, or the next one comes. */
const SHOWN_MS = 8_000;

class Notices {
  readonly all = signal<readonly Notice[]>([]);
  #count = 0;

  show(text: string): void {
    const notice = this.#add(text, false);
    setTimeout(() => this.close(notice), SHOWN_MS);
  }

  fail(text: string): void {
    this.all.value = this.all.peek().filter(({ isError }) => !isError);
    this.#add(text, true);
  }

  close(notice: Notice): void {
    this.all.value = this.all.peek().filter(({ id }) => id !== notice.id);
  }

  clear(): void {
    this.all.value = [];
  }

  #add(text: string, isError: boolean): Notice {
    const notice = { id: ++this.#count, text, isError };
    this.all.value = [...this.all.peek().filter((other) => other.text !== text), notice].slice(-3);
    return notice;
  }
}

export const notices = new Notices();

/** Performs an action, and shows its error if it fails. Returns whether it succeeded. */
export async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    notices.fail(textOfError(error));
    return false;
  }
}
