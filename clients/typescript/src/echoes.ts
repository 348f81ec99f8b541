/** The echoes of this client's own sends. */

import type { Content, Message } from "./protocol.js";
import type { Address } from "./submission.js";

/** Sends of the same content to the same addressee that have no result yet. */
interface Alike {
  sends: number;
  /** The pushed messages that may be echoes of these sends. */
  held: Message[];
}

/**
 * The server pushes a message of the user to all other connections of the user. These may be connections of this very
 * client: a later one, if it sends again what an earlier one has sent, or any, if it sends by REST. Only the result of
 * a send tells the id of its message. So a message that equals a send without a result waits for that result.
 */
export class Echoes {
  readonly #sends = new Map<string, Alike>();

  /**
   * Begins to hold messages that equal this send. Returns the function that ends it, to be called with the result. It
   * returns the held messages, which are of no send any more.
   */
  expect(to: Address, content: Content): () => Message[] {
    const key = "groupId" in to ? keyOf("multicast", to.groupId, content) : keyOf("unicast", to.receiverId, content);
    const alike = this.#sends.get(key) ?? { sends: 0, held: [] };
    alike.sends += 1;
    this.#sends.set(key, alike);
    return () => {
      alike.sends -= 1;
      if (alike.sends > 0) return [];
      // After a release, another one may have this key.
      if (this.#sends.get(key) === alike) this.#sends.delete(key);
      return alike.held;
    };
  }

  /** Forgets all sends, and returns all held messages. */
  release(): Message[] {
    const held = [...this.#sends.values()].flatMap((alike) => alike.held.splice(0));
    this.#sends.clear();
    return held;
  }

  /** Holds a pushed message if it may be an echo. Returns whether it does. */
  holds(message: Message): boolean {
    if (this.#sends.size === 0) return false;
    const to = message.type === "multicast" ? message.groupId : message.receiverId;
    const alike = this.#sends.get(keyOf(message.type, to, message.content));
    alike?.held.push(message);
    return alike !== undefined;
  }
}

/** The server keeps a content exactly as it was sent, so the echo has the same text. */
function keyOf(type: Message["type"], to: string, content: Content): string {
  try {
    return JSON.stringify([type, to, content]);
  } catch {
    // Such a content is no JSON. Its send is refused, and no message equals it.
    return "";
  }
}
