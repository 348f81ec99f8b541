/** The protocol's frames and documents as types, and the parser of frames. */

/** A version of the protocol. In version 2, the server also sends the user's own messages, and signals. */
export type Version = 1 | 2;

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The content of a message: any JSON value but null. */
export type Content = Exclude<Json, null>;

/** What can be a content: a type of the application, for example an interface. */
export type AnyContent = string | number | boolean | object;

/** What a client of these contents can send. Without a type of its own, it also takes the interfaces of others. */
export type Sendable<C extends AnyContent> = Content extends C ? C | object : C;

/** A private message. */
export interface PrivateMessage<C extends AnyContent = Content> {
  type: "unicast";
  /** A ULID: unique, and sorted by time. */
  id: string;
  senderId: string;
  receiverId: string;
  content: C;
  /** When the message reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** A message to a group. */
export interface GroupMessage<C extends AnyContent = Content> {
  type: "multicast";
  /** A ULID: unique, and sorted by time. */
  id: string;
  senderId: string;
  groupId: string;
  content: C;
  /** When the message reached the server, in milliseconds since the Unix epoch. */
  timestamp: number;
}

/** A message to the user, or in version 2 also one from the user. */
export type Message<C extends AnyContent = Content> = PrivateMessage<C> | GroupMessage<C>;

interface Recalled {
  /** A recalled message has no content any more. */
  content?: never;
  /** When it was recalled, in milliseconds since the Unix epoch. */
  recalledAt: number;
}

/** A recalled private message, as a history has it. */
export interface RecalledPrivateMessage extends Omit<PrivateMessage, "content">, Recalled {}

/** A recalled message to a group, as a history has it. */
export interface RecalledGroupMessage extends Omit<GroupMessage, "content">, Recalled {}

/** A message in a history. If it has `recalledAt`, it was recalled. */
export type HistoryMessage<C extends AnyContent = Content> =
  | (Message<C> & { recalledAt?: never })
  | RecalledPrivateMessage
  | RecalledGroupMessage;

/** The conversation with another user, or that of a group. */
export type ConversationAddress = { userId: string } | { groupId: string };

interface ConversationState<C extends AnyContent> {
  /** The last message. Left out if nothing was said. */
  last?: HistoryMessage<C>;
  /** The number of messages of others after `readUntil`, 0 to 100. */
  unread: number;
  /** There may be more unread messages than were counted. */
  unreadMore?: true;
  /** The last message that the user has read. */
  readUntil?: string;
}

/** A conversation with a friend. */
export interface PrivateConversation<C extends AnyContent = Content> extends ConversationState<C> {
  type: "unicast";
  userId: string;
  /** The last message that the friend has read. */
  peerReadUntil?: string;
}

/** A conversation of a group. */
export interface GroupConversation<C extends AnyContent = Content> extends ConversationState<C> {
  type: "multicast";
  groupId: string;
  name: string;
}

/** A conversation in the list of conversations. */
export type Conversation<C extends AnyContent = Content> = PrivateConversation<C> | GroupConversation<C>;

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
  /** When the reason ends, in milliseconds since the Unix epoch. */
  until?: number;
  /** How long to wait before a repeat, in milliseconds. */
  retryAfterMs?: number;
}

/** The frame that a message was recalled, for its sender and its receivers. It has the id of the message. */
export type RecalledFrame = {
  type: "RECALLED";
  id: string;
  /** The sender of the message. In a group, its manager may have recalled it. */
  senderId: string;
  /** When the message was recalled, in milliseconds since the Unix epoch. */
  timestamp: number;
} & ({ receiverId: string; groupId?: never } | { groupId: string; receiverId?: never });

/** The frame that a conversation was read up to a message: by the user, or by the friend whom `userId` names. */
export type ReadFrame = {
  type: "READ";
  readerId: string;
  /** The last message that was read. */
  until: string;
} & ({ userId: string; groupId?: never } | { groupId: string; userId?: never });

/** The signal that a friend is typing. */
export interface TypingFrame {
  type: "TYPING";
  senderId: string;
}

/** The signal that the user was invited to a group. */
export interface InvitationFrame extends Invitation {
  type: "INVITATION";
}

/** The signal that a group has changed: that a user joined, left, was removed, or became the manager, for example. */
export type GroupFrame = { type: "GROUP"; groupId: string } & (
  | { event: "joined" | "left" | "removed" | "manager"; userId: string }
  | { event: "renamed"; name: string }
  | { event: "dissolved" }
);

/** A frame that has no part in the order of messages, and that is never stored. */
export type Signal = ReadFrame | TypingFrame | InvitationFrame | GroupFrame;

/** A frame from the server. */
export type ServerFrame = LogEntry | Notification | AckFrame | ErrorFrame | Signal;

/** An entry of the log of messages: a message, or the recall of an earlier one. */
export type LogEntry = Message | RecalledFrame;

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

/** The messages of one sender, as in the answer of a pull. In version 2, the recalls of messages are among them. */
export interface FromSender {
  id: string;
  messages: LogEntry[];
}

/** The longest frame that the server accepts, in bytes. */
export const MAX_FRAME_BYTES = 32 * 1024;

/** The longest `requestId` that the server accepts, in bytes. The `ERROR` for a longer one does not name it. */
export const MAX_REQUEST_ID_BYTES = 64;

/**
 * The types of frames, and the fields that each has in any case. They are texts, but `timestamp` is a number. Of two
 * names with `|` between them, one is enough.
 */
const FRAMES = [
  "unicast id senderId receiverId timestamp",
  "multicast id senderId groupId timestamp",
  "RECALLED id senderId receiverId|groupId timestamp",
  "ACK id requestId timestamp",
  "ERROR code message",
  "NOTIFICATION notificationType",
  "READ readerId userId|groupId until",
  "TYPING senderId",
  "INVITATION id groupName groupId userId invitedBy",
  "GROUP groupId event",
];

/** Parses a frame from the server. Returns undefined if it is not a frame of the protocol. */
export function readFrame(text: unknown): ServerFrame | undefined {
  try {
    const frame: unknown = JSON.parse(text as string);
    return isFrame(frame) ? frame : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a value is a message, as in a frame or a pull. */
export function isMessage(value: unknown): value is Message {
  return isFrame(value) && /cast$/.test(value.type);
}

/** Whether a value is the recall of a message, as in a frame or a pull. */
export function isRecalled(value: unknown): value is RecalledFrame {
  return isFrame(value) && value.type === "RECALLED";
}

function isFrame(value: unknown): value is ServerFrame {
  const frame = Object(value) as Record<string, unknown>;
  const has = (name: string) => typeof frame[name] === (name === "timestamp" ? "number" : "string");
  return FRAMES.some((line) => {
    const [type, ...fields] = line.split(" ");
    return frame["type"] === type && fields.every((names) => names.split("|").some(has));
  });
}
