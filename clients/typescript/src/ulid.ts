/** The parts of ULIDs that the client needs: 10 characters of time in Crockford's base 32, and 16 random ones. */

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_CHARACTERS = 10;
const MAX_MS = 2 ** 48 - 1;

/** The smallest id of a millisecond. Every later message has a greater one. */
export function firstIdAt(ms: number): string {
  let rest = Math.min(Math.max(Math.floor(ms), 0), MAX_MS);
  let text = "";
  for (let i = 0; i < TIME_CHARACTERS; i++) {
    text = ALPHABET.charAt(rest % 32) + text;
    rest = Math.floor(rest / 32);
  }
  return text + "0".repeat(16);
}

/** The time of an id, in milliseconds since the Unix epoch. */
export function timeOf(id: string): number {
  let ms = 0;
  for (const character of id.slice(0, TIME_CHARACTERS)) ms = ms * 32 + Math.max(ALPHABET.indexOf(character), 0);
  return ms;
}
