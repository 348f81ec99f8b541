/** The keys of chats. */

import type { Address, ConversationAddress, HistoryMessage, RecalledFrame } from "serverless-chat-client";

/** `user:<id>` or `group:<id>`. */
export type ChatKey = string;

export const withUser = (user: string): ChatKey => `user:${user}`;
export const ofGroup = (group: string): ChatKey => `group:${group}`;
export const isGroup = (key: ChatKey): boolean => key.startsWith("group:");
export const idOf = (key: ChatKey): string => key.slice(key.indexOf(":") + 1);

/** Whether a text from outside, such as the end of the page's address, is a key. */
export const isKey = (text: string): boolean => /^(user|group):[A-Za-z0-9._:@-]{1,128}$/.test(text);

/** The chat of a message, or of its recall. */
export function keyOf(me: string, message: HistoryMessage | RecalledFrame): ChatKey {
  const { groupId, receiverId } = message as { groupId?: string; receiverId?: string };
  if (groupId !== undefined) return ofGroup(groupId);
  return withUser(message.senderId === me && receiverId !== undefined ? receiverId : message.senderId);
}

/** The address of a chat, for messages. */
export const addressOf = (key: ChatKey): Address =>
  isGroup(key) ? { groupId: idOf(key) } : { receiverId: idOf(key) };

/** The address of a chat, for its history and read marks. */
export const conversationOf = (key: ChatKey): ConversationAddress =>
  isGroup(key) ? { groupId: idOf(key) } : { userId: idOf(key) };
