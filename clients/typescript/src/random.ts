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
  const random = crypto?.getRandomValues?.(new Uint8Array(16));
  const bytes = random ?? new Uint8Array(16).map(() => Math.random() * 256);
  const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return random ? id : `${Date.now().toString(36)}-${id}`;
}
