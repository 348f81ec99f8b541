/** A circle with the initials of a user or group, in a colour of its own. */

/** The number of colours in page.css. */
const COLOURS = 8;

function colourOf(id: string): number {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)!) % 65_521;
  return sum % COLOURS;
}

/** The first letters of the first two words. */
export function initialsOf(name: string): string {
  const words = name.split(/[^\p{L}\p{N}\p{M}\p{Extended_Pictographic}\u200d\ufe0f]+/u).filter((word) => word !== "");
  const first = (word: string) => [...new Intl.Segmenter().segment(word)][0]?.segment ?? "";
  const letters = words.slice(0, 2).map(first).join("");
  return letters === "" ? "?" : letters.toLocaleUpperCase();
}

export function Avatar({ id, name, isGroup = false }: { id: string; name: string; isGroup?: boolean }) {
  return (
    <span class={`avatar colour-${colourOf(id)} ${isGroup ? "of-group" : ""}`} aria-hidden="true">
      {initialsOf(name)}
    </span>
  );
}
