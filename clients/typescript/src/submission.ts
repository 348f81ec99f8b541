/** The message that a client sends, as the text of a frame or of a body. */

import { ChatError } from "./errors.js";
import { MAX_FRAME_BYTES, MAX_REQUEST_ID_BYTES, type Content } from "./protocol.js";

/** The addressee of a message. */
export type Address = { receiverId: string } | { groupId: string };

/** Encodes a message. @throws ChatError of code `bad_request` if the server would refuse it. */
export function encode(to: Address, content: Content, requestId: string): string {
  const requestIdBytes = bytesOf(requestId);
  if (requestIdBytes < 1 || requestIdBytes > MAX_REQUEST_ID_BYTES) {
    throw new ChatError("bad_request", `requestId has ${requestIdBytes} bytes, not 1 to ${MAX_REQUEST_ID_BYTES}`);
  }
  const type = "groupId" in to ? "multicast" : "unicast";
  let text: string;
  try {
    text = JSON.stringify({ type, ...to, content, requestId });
  } catch (cause) {
    throw new ChatError("bad_request", "the content is not JSON", { cause });
  }
  if (content === undefined || content === null) throw new ChatError("bad_request", "the content is missing");
  const bytes = bytesOf(text);
  // The gateway would close the connection for a longer frame.
  if (bytes > MAX_FRAME_BYTES) {
    throw new ChatError("bad_request", `the frame is ${bytes} bytes long; the limit is ${MAX_FRAME_BYTES}`);
  }
  return text;
}

/** The bytes of a text in UTF-8. Some versions of React Native have no TextEncoder. */
function bytesOf(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
