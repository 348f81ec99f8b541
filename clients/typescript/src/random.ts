/** The ids of sends. */

/**
 * 128 random bits as text. `crypto.randomUUID` exists only on pages served over https.
 *
 * Without `crypto`, as in React Native, the bits come from `Math.random`, with the time before them. That is enough for
 * this purpose alone: a `requestId` is no secret. It only tells the sends of one user within ten minutes from each
 * other. Anybody who guesses it can do nothing with it.
 */
export function randomId(): string {
  const { crypto } = globalThis as { crypto?: Crypto };
  if (typeof crypto?.getRandomValues === "function") {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
  }
  const bytes = Array.from({ length: 16 }, () => Math.floor(Math.random() * 256));
  return `${Date.now().toString(36)}-${bytes.map(hex).join("")}`;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
