/** The contents of messages: what this page sends, and what it shows of any JSON. */

import type { Content, HistoryMessage } from "serverless-chat-client";

/** The message that a reply quotes. `text` is its beginning. */
export interface Quote {
  id: string;
  senderId: string;
  text: string;
}

/** What is shown of a content. */
export interface Shown {
  text: string;
  quote?: Quote | undefined;
  /** The content is not a text of this page's form: `text` is its JSON. */
  isJson: boolean;
}

/** The greatest number of characters of a quoted message. */
const QUOTED_CHARACTERS = 160;

/** The longest frame that the server accepts, in bytes. */
export const MAX_FRAME_BYTES = 32 * 1024;

/** A plain text is a string. A reply is `{ text, quote }`. */
export function contentOf(text: string, quote: Quote | undefined): Content {
  return quote === undefined ? text : { text, quote: { ...quote } };
}

/** Returns what to show of a content. Other applications may send any JSON. */
export function shownOf(content: Content): Shown {
  if (typeof content === "string") return { text: content, isJson: false };
  if (typeof content === "object" && !Array.isArray(content) && typeof content["text"] === "string") {
    return { text: content["text"], quote: quoteIn(content["quote"]), isJson: false };
  }
  return { text: JSON.stringify(content, null, 1), isJson: true };
}

function quoteIn(value: Content | null | undefined): Quote | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { id, senderId, text } = value;
  if (typeof id !== "string" || typeof senderId !== "string" || typeof text !== "string") return undefined;
  return { id, senderId, text: excerpt(text) };
}

/** Quotes a message. */
export function quoteOf({ id, senderId, content }: HistoryMessage): Quote {
  return { id, senderId, text: content === undefined ? "" : excerpt(shownOf(content).text) };
}

/** The beginning of a text, on one line. It does not cut within an emoji. */
export function excerpt(text: string, characters = QUOTED_CHARACTERS): string {
  // Only a beginning is looked at: a message may be 32 KB long.
  const line = text.slice(0, characters * 4).replace(/\s+/g, " ").trim();
  const segments = [...new Intl.Segmenter().segment(line)];
  if (segments.length <= characters) return line;
  return `${segments.slice(0, characters).map(({ segment }) => segment).join("")}…`;
}

/** How many bytes a frame with this content has beyond the limit. Zero or less if it fits. */
export function bytesTooMany(to: object, content: Content, requestId: string): number {
  const frame = JSON.stringify({ type: "multicast", ...to, content, requestId });
  return new TextEncoder().encode(frame).length - MAX_FRAME_BYTES;
}

/** Whether a text is one to three emoji and nothing else. */
export function isFewEmoji(text: string): boolean {
  if (text.length > 60 || !/^[\p{Extended_Pictographic}\p{Emoji_Component}\s]+$/u.test(text)) return false;
  const emoji = [...new Intl.Segmenter().segment(text.replace(/\s/g, ""))].map(({ segment }) => segment);
  const isEmoji = (one: string) => /\p{Extended_Pictographic}|\p{Regional_Indicator}{2}|\u20e3/u.test(one);
  return emoji.length >= 1 && emoji.length <= 3 && emoji.every(isEmoji);
}

/** A part of a text: `href` is the address of a link. */
export interface Part {
  text: string;
  href?: string;
}

/** Only http and https. A link ends before spaces, quotes, direction marks, and the letters of Chinese and its like. */
const LETTERS_WITHOUT_SPACES = String.raw`\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}`;
const NOT_IN_LINKS = String.raw`\s<>"'\x60\p{Cc}\p{Cf}${LETTERS_WITHOUT_SPACES}\u3000-\u303f\uff00-\uffef`;
const LINK = new RegExp(String.raw`\bhttps?:\/\/[^${NOT_IN_LINKS}]+`, "giu");

/** Splits a text at its links. */
export function linksIn(text: string): Part[] {
  const parts: Part[] = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const link = withoutEnd(found);
    const href = addressIn(link);
    if (href === undefined) continue;
    if (index > from) parts.push({ text: text.slice(from, index) });
    parts.push({ text: link, href });
    from = index + link.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  return parts;
}

/** Cuts what belongs to the sentence around a link: marks at its end, and brackets that were opened before it. */
function withoutEnd(link: string): string {
  const count = (text: string, mark: string) => text.split(mark).length;
  for (;;) {
    const last = link.at(-1) ?? "";
    const opening = { ")": "(", "]": "[", "}": "{" }[last];
    const isOutside = opening !== undefined && count(link, last) > count(link, opening);
    if (!isOutside && !/[.,;:!?…*_~|]/.test(last)) return link;
    link = link.slice(0, -1);
  }
}

function addressIn(link: string): string | undefined {
  try {
    const { href, protocol } = new URL(link);
    return protocol === "https:" || protocol === "http:" ? href : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a link names a picture. */
export const isPicture = (href: string): boolean => /\.(png|jpe?g|gif|webp|avif)$/i.test(new URL(href).pathname);
