/** The parts of ULIDs that the client needs: 10 characters of time in Crockford's base 32, and 16 random ones. */

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_CHARACTERS = 10;
const MAX_MS = 2 ** 48 - 1;

/** The smallest id of a millisecond. Every later message has a greater one. */
export function firstIdAt(ms: number): string {
  const digits = Math.min(Math.max(Math.floor(ms), 0), MAX_MS).toString(32).padStart(TIME_CHARACTERS, "0");
  return digits.replace(/./g, (digit) => ALPHABET[parseInt(digit, 32)]!).padEnd(26, "0");
}

/** The time of an id, in milliseconds since the Unix epoch. */
export function timeOf(id: string): number {
  let ms = 0;
  for (const character of id.slice(0, TIME_CHARACTERS)) ms = ms * 32 + Math.max(ALPHABET.indexOf(character), 0);
  return ms;
}
