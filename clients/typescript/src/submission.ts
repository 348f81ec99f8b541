/** The message that a client sends, as the text of a frame or of a body. */

import { ChatError } from "./errors.js";
import { MAX_FRAME_BYTES, MAX_REQUEST_ID_BYTES, type Content } from "./protocol.js";

/** The addressee of a message. */
export type Address = { receiverId: string } | { groupId: string };

/** Encodes a message. @throws ChatError of code `bad_request` if the server would refuse it. */
export function encode(to: Address, content: Content, requestId: string): string {
  // The server takes another value for none, and would store each repeat.
  if (typeof requestId !== "string") throw new ChatError("bad_request", "requestId must be a string");
  checkLength("requestId", requestId, MAX_REQUEST_ID_BYTES);
  const type = "groupId" in to ? "multicast" : "unicast";
  let text: string;
  try {
    text = JSON.stringify({ type, ...to, content, requestId });
  } catch (cause) {
    throw new ChatError("bad_request", "the content is not JSON", { cause });
  }
  if (content === undefined || content === null) throw new ChatError("bad_request", "the content is missing");
  // The gateway would close the connection for a longer frame.
  checkLength("the frame", text, MAX_FRAME_BYTES);
  return text;
}

/** Checks the length of a text in UTF-8. Some versions of React Native have no TextEncoder. */
function checkLength(what: string, text: string, max: number): void {
  const bytes = escaped(text).replace(/%../g, "-").length;
  if (bytes < 1 || bytes > max) throw new ChatError("bad_request", `${what} has ${bytes} bytes, not 1 to ${max}`);
}

/** Escapes a text for an address. @throws ChatError of code `bad_request` if it is no Unicode. */
export function escaped(text: string | number): string {
  try {
    return encodeURIComponent(text);
  } catch {
    throw new ChatError("bad_request", "an id or a name must not have half of an emoji");
  }
}
