/** The echoes of this client's own sends. */

import type { Content, Message } from "./protocol.js";
import type { Address } from "./submission.js";

/** Sends of the same content to the same addressee that have no result yet. */
interface Alike {
  sends: number;
  /** The pushed messages that may be echoes of these sends. */
  held: Message[];
}

/** Each member of a group may repeat the content of a send endlessly. Only some messages of each wait. */
const MAX_HELD = 100;

/**
 * The server pushes a message of the user to all other connections of the user. These may be connections of this very
 * client: a later one, if it sends again what an earlier one has sent, or any, if it sends by REST. Only the result of
 * a send tells the id of its message. So a message that equals a send without a result waits for that result.
 */
export function createEchoes() {
  const sends = new Map<string, Alike>();
  return {
    /**
     * Begins to hold messages that equal this send. Returns the function that ends it, to be called with the result. It
     * returns the held messages, which are of no send any more.
     */
    expect(to: Address, content: Content): () => Message[] {
      const key = keyOf({ ...to, content });
      const alike = sends.get(key) ?? { sends: 0, held: [] };
      alike.sends += 1;
      sends.set(key, alike);
      return () => {
        alike.sends -= 1;
        if (alike.sends > 0) return [];
        // After a release, another one may have this key.
        if (sends.get(key) === alike) sends.delete(key);
        return alike.held;
      };
    },

    /** Forgets all sends, and returns all held messages. */
    release(): Message[] {
      const held = [...sends.values()].flatMap((alike) => alike.held.splice(0));
      sends.clear();
      return held;
    },

    /** Holds a pushed message if it may be an echo, and if not too many of its sender wait. Returns whether it does. */
    holds(message: Message): boolean {
      const { held } = (sends.size && sends.get(keyOf(message))) || {};
      const ofSender = held?.filter(({ senderId }) => senderId === message.senderId);
      return !!ofSender && ofSender.length < MAX_HELD && held!.push(message) > 0;
    },
  };
}

/** The server keeps a content exactly as it was sent, so the echo has the same text. */
function keyOf({ groupId, receiverId, content }: { groupId?: string; receiverId?: string; content: Content }): string {
  try {
    return JSON.stringify([groupId, receiverId, content]);
  } catch {
    // Such a content is no JSON. Its send is refused, and no message equals it.
    return "";
  }
}
