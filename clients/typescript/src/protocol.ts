/** The protocol's frames and documents as types, and the reading of frames. */

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** What a message may carry: any JSON value but null. */
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

/** What the host application told whoever is online. Notifications are never stored, nor repeated. */
export interface Notification {
  type: "NOTIFICATION";
  notificationType: string;
  content: Json;
  [field: string]: Json;
}

/** The server's word that a message is durable. */
export interface AckFrame {
  type: "ACK";
  requestId: string;
  id: string;
  timestamp: number;
}

/** The server's word that a frame was not accepted. */
export interface ErrorFrame {
  type: "ERROR";
  code: string;
  message: string;
  requestId?: string;
}

/** What the server sends. */
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

/** The messages of one sender, as a pull answers them. */
export interface FromSender {
  id: string;
  messages: Message[];
}

/** The longest frame that the server takes, in bytes. */
export const MAX_FRAME_BYTES = 32 * 1024;

/** The longest `requestId` that the server takes, in bytes. A longer one is not named in the `ERROR` that refuses it. */
export const MAX_REQUEST_ID_BYTES = 64;

/** The frame of a text from the server; undefined for what is none of the protocol's. */
export function readFrame(text: unknown): ServerFrame | undefined {
  if (typeof text !== "string") return undefined;
  let frame: Partial<Record<string, unknown>>;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof frame !== "object" || frame === null) return undefined;
  const isText = (...names: string[]) => names.every((name) => typeof frame[name] === "string");
  const isStamped = isText("id") && typeof frame["timestamp"] === "number";
  switch (frame["type"]) {
    case "unicast":
      return isStamped && isText("senderId", "receiverId") ? (frame as unknown as PrivateMessage) : undefined;
    case "multicast":
      return isStamped && isText("senderId", "groupId") ? (frame as unknown as GroupMessage) : undefined;
    case "ACK":
      return isStamped && isText("requestId") ? (frame as unknown as AckFrame) : undefined;
    case "ERROR":
      return isText("code", "message") ? (frame as unknown as ErrorFrame) : undefined;
    case "NOTIFICATION":
      return frame as unknown as Notification;
    default:
      return undefined;
  }
}
