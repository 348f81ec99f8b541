/** The text of a message, with its links and pictures. */

import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { isPicture, linksIn } from "../model/content.js";
import { words } from "../words/words.js";
import { Icon } from "./icons.js";

/** A longer text is cut on the screen, until the user asks for all of it. */
const CHARACTERS = 3_000;
const LINES = 40;

/** The number of pictures that a message offers. */
const PICTURES = 4;

export function Text({ text, isLarge }: { text: string; isLarge: boolean }) {
  const { showAll } = words();
  const isWhole = useSignal(false);
  const beginning = useMemo(() => beginningOf(text), [text]);
  const shown = isWhole.value ? text : beginning;
  const parts = useMemo(() => linksIn(shown), [shown]);
  const pictures = parts.flatMap(({ href }) => (href !== undefined && isPicture(href) ? [href] : []));
  return (
    <>
      <span class={`text ${isLarge ? "large" : ""}`} dir="auto">
        {parts.map(({ text, href }) =>
          href === undefined ? (
            text
          ) : (
            <a href={href} target="_blank" rel="noopener noreferrer nofollow" dir="ltr">
              {text}
            </a>
          ),
        )}
        {shown !== text && "…"}
      </span>
      {shown !== text && (
        <button type="button" class="link" onClick={() => (isWhole.value = true)}>
          {showAll}
        </button>
      )}
      {[...new Set(pictures)].slice(0, PICTURES).map((href) => (
        <Picture key={href} href={href} />
      ))}
    </>
  );
}

/** A picture of another site. It is loaded only on a click, since loading it tells that site who reads. */
function Picture({ href }: { href: string }) {
  const { showPicture, picture, noPicture } = words();
  const state = useSignal<"hidden" | "shown" | "failed">("hidden");
  const { host } = new URL(href);
  if (state.value === "failed") return <p class="no-picture">{noPicture}</p>;
  if (state.value === "shown") {
    return (
      <img
        src={href}
        alt={picture(host)}
        referrerpolicy="no-referrer"
        decoding="async"
        onError={() => (state.value = "failed")}
      />
    );
  }
  return (
    <button type="button" class="picture" onClick={() => (state.value = "shown")}>
      <Icon name="picture" /> {showPicture(host)}
    </button>
  );
}

/** The beginning of a long text. It does not cut within a character. */
function beginningOf(text: string): string {
  const lines = text.split("\n", LINES + 1).slice(0, LINES).join("\n");
  const short = lines.length <= CHARACTERS ? lines : lines.slice(0, CHARACTERS);
  return short.replace(/[\ud800-\udbff]$/, "");
}
