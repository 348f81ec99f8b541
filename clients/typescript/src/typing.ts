/** The signal that the user is typing, sent only now and then. */

import type { Clock } from "./clock.js";
import type { Timing } from "./timing.js";

export interface TypistSettings {
  clock: Clock;
  timing: Pick<Timing, "typingEveryMs">;
}

/** Returns a function that tells a receiver by another one, unless that was done a moment ago. */
export function createTypist({ clock, timing }: TypistSettings) {
  /** When each receiver was last told. */
  const toldAt = new Map<string, number>();
  return (receiverId: string, send: (text: string) => void): void => {
    const now = clock.now();
    for (const [id, at] of toldAt) {
      // The machine's clock may have been set back.
      if (at > now || at <= now - timing.typingEveryMs) toldAt.delete(id);
    }
    if (toldAt.has(receiverId)) return;
    toldAt.set(receiverId, now);
    send(JSON.stringify({ type: "typing", receiverId }));
  };
}
