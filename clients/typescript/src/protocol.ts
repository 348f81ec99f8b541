/** The protocol's frames and documents as types, and the parser of frames. */

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The content of a message: any JSON value but null. */
export type Content = Exclude<Json, null>;

/** A private message. */
export interface PrivateMessage {
  type: "unicast";
  /** A ULID: unique, and sorted by time. */
  id: string;
  senderId: string;
  receiverId: string;
  content: Content;
  /** When the message reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** A message to a group. */
export interface GroupMessage {
  type: "multicast";
  /** A ULID: unique, and sorted by time. */
  id: string;
  senderId: string;
  groupId: string;
  content: Content;
  /** When the message reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** A message to the user. */
export type Message = PrivateMessage | GroupMessage;

/** A notification of the host application to online users. It is never stored and never repeated. */
export interface Notification {
  type: "NOTIFICATION";
  notificationType: string;
  content: Json;
  [field: string]: Json;
}

/** The server's confirmation that a message is durable. */
export interface AckFrame {
  type: "ACK";
  requestId: string;
  id: string;
  timestamp: number;
}

/** The server's answer that a frame was not accepted. */
export interface ErrorFrame {
  type: "ERROR";
  code: string;
  message: string;
  requestId?: string;
}

/** A frame from the server. */
export type ServerFrame = Message | Notification | AckFrame | ErrorFrame;

/** A group as its members see it. */
export interface Group {
  id: string;
  name: string;
  managerId: string;
  usersId: string[];
}

/** An invitation to the user. */
export interface Invitation {
  id: string;
  groupId: string;
  groupName: string;
  userId: string;
  invitedBy: string;
}

/** The messages of one sender, as in the answer of a pull. */
export interface FromSender {
  id: string;
  messages: Message[];
}

/** The longest frame that the server accepts, in bytes. */
export const MAX_FRAME_BYTES = 32 * 1024;

/** The longest `requestId` that the server accepts, in bytes. The `ERROR` for a longer one does not name it. */
export const MAX_REQUEST_ID_BYTES = 64;

/** Parses a frame from the server. Returns undefined if it is not a frame of the protocol. */
export function readFrame(text: unknown): ServerFrame | undefined {
  if (typeof text !== "string") return undefined;
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  return isMessage(frame) || isAck(frame) || isError(frame) || isNotification(frame) ? frame : undefined;
}

/** Whether a value is a message, as in a frame or a pull. */
export function isMessage(value: unknown): value is Message {
  if (!hasTexts(value, "id", "senderId") || typeof value["timestamp"] !== "number") return false;
  const addressee = { unicast: "receiverId", multicast: "groupId" }[String(value["type"])];
  return addressee !== undefined && hasTexts(value, addressee);
}

function isAck(value: unknown): value is AckFrame {
  return hasTexts(value, "requestId", "id") && value["type"] === "ACK" && typeof value["timestamp"] === "number";
}

function isError(value: unknown): value is ErrorFrame {
  return hasTexts(value, "code", "message") && value["type"] === "ERROR";
}

function isNotification(value: unknown): value is Notification {
  return hasTexts(value, "notificationType") && value["type"] === "NOTIFICATION";
}

function hasTexts(value: unknown, ...names: string[]): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  return names.every((name) => typeof (value as Record<string, unknown>)[name] === "string");
}
